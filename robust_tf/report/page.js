"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const fine = matchMedia("(pointer: fine)").matches;
  const narrow = () => root.clientWidth < 640;
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const hiddenRuns = new Set();

  // Colors ------------------------------------------------------------------------------------
  const color = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  // On dark paper a dark line is mixed with white until it can be seen; its hue stays.
  const legible = (hex) => {
    if (!dark.matches || !/^#[0-9a-f]{6}$/i.test(hex)) return hex;
    let rgb = [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
    for (let k = 0; k < 20 && luminance(rgb) < 0.16; k++) rgb = rgb.map((v) => v + (255 - v) * 0.08);
    return `rgb(${rgb.map(Math.round).join(",")})`;
  };
  const dressed = (trace) => {
    const copy = { ...trace };
    for (const part of ["line", "marker"]) {
      if (!copy[part] || !copy[part].color) continue;
      const own = copy[part].color;
      copy[part] = { ...copy[part], color: Array.isArray(own) ? own.map(legible) : legible(own) };
    }
    if (copy.error_y) copy.error_y = { ...copy.error_y, color: color("--soft") };
    return copy;
  };

  // Charts -------------------------------------------------------------------------------------
  const webgl = (() => {
    try { return Boolean(document.createElement("canvas").getContext("webgl")); } catch { return false; }
  })();
  const axis = (own) => ({
    gridcolor: color("--grid"), zerolinecolor: color("--line"), linecolor: color("--line"),
    automargin: true, ...own,
  });
  const layoutOf = (spec) => {
    const { scene, ...own } = spec.layout;
    const layout = {
      ...own, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: color("--ink"), size: 12, family: "system-ui, sans-serif" },
      margin: { l: 56, r: 12, t: 12, b: 48 }, hovermode: "closest",
      hoverlabel: { bgcolor: color("--panel"), bordercolor: color("--line"), font: { color: color("--ink") } },
      legend: { orientation: "h", x: 0, y: 1.03, yanchor: "bottom", font: { size: 11 } },
      dragmode: fine && !narrow() ? "zoom" : false,
    };
    if (!own.xaxis.title.text) layout.margin.b = 24;
    if (!own.yaxis.title.text) layout.margin.l = 24;
    layout.xaxis = axis(own.xaxis);
    layout.yaxis = axis(own.yaxis);
    if (scene && webgl) {
      const far = narrow() ? 1.35 : 1;
      const eye = Object.fromEntries(Object.entries(scene.camera.eye).map(([k, v]) => [k, v * far]));
      layout.scene = { camera: { eye }, aspectmode: scene.aspectmode };
      layout.margin = { l: 0, r: 0, t: 0, b: 0 };
      for (const name of ["xaxis", "yaxis", "zaxis"]) {
        layout.scene[name] = { ...scene[name], color: color("--ink"), gridcolor: color("--line") };
      }
      layout.dragmode = fine && !narrow() ? "turntable" : false;
    }
    return layout;
  };
  const tracesOf = (spec) => spec.data
    .filter((trace) => !(trace.meta && hiddenRuns.has(trace.meta.run)))
    .map((trace) => dressed(trace))
    .map((trace) => (trace.type !== "surface" ? trace
      : webgl ? { ...trace, showscale: !narrow() } : { ...trace, type: "heatmap" }));
  const draw = (spec) => {
    const place = document.getElementById(spec.id);
    if (!place || place.closest("[hidden]")) return Promise.resolve();
    const placeholder = place.querySelector(".placeholder");
    if (placeholder) placeholder.remove();
    const config = { responsive: true, displayModeBar: false, displaylogo: false, scrollZoom: false };
    return Plotly.react(place, tracesOf(spec), layoutOf(spec), config);
  };
  // One after the other, so that the page answers meanwhile.
  const drawAll = async () => {
    document.body.removeAttribute("data-ready");
    for (const swatch of document.querySelectorAll(".swatch")) {
      swatch.style.background = legible(swatch.dataset.color);
    }
    for (const spec of specs) {
      try { await draw(spec); } catch (error) { console.error(spec.id, error); }
      await new Promise((next) => setTimeout(next));
    }
    document.body.dataset.ready = "yes";
  };

  // Tables: a button in each header sorts by its column, up, then down. ----------------------------
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    const text = cell.textContent.trim();
    return text === "–" ? null : text.toLowerCase();
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...body.rows].map((row) => [keyOf(row, column), row]);
        // Rows without a value stay at the end either way.
        rows.sort(([a], [b]) => (a === null) - (b === null) || (up ? compare(a, b) : compare(b, a)));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  // Filters: a control above the table for each column that has one; `most` and `least` are bounds. --
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead?.rows[0].cells ?? []];
    if (!heads.some((head) => head.dataset.filter)) continue;
    const rows = [...table.tBodies[0].rows];
    const box = document.createElement("fieldset");
    const shown = document.createElement("output");
    const tests = [];
    box.className = "filters";
    box.append(Object.assign(document.createElement("legend"), { textContent: "Rows shown" }));
    heads.forEach((head, column) => {
      const kind = head.dataset.filter;
      if (!kind) return;
      const label = document.createElement("label");
      const control = document.createElement(kind === "choice" ? "select" : "input");
      label.append(head.textContent + { most: ", at most", least: ", at least", choice: "" }[kind], control);
      if (kind === "choice") {
        const texts = [...new Set(rows.map((row) => row.cells[column].textContent.trim()))];
        control.add(new Option("all", "all", true, true));
        for (const text of texts.sort()) control.add(new Option(text, `=${text}`));
        tests.push((row) => control.value === "all" || control.value === `=${row.cells[column].textContent.trim()}`);
      } else {
        Object.assign(control, { type: "number", step: "any", min: "0" });
        tests.push((row) => {
          if (control.value === "") return true;
          const value = keyOf(row, column);
          const least = kind === "least";
          return value !== null && (least ? value >= Number(control.value) : value <= Number(control.value));
        });
      }
      for (const event of ["input", "change"]) control.addEventListener(event, () => choose());
      box.append(label);
    });
    const choose = () => {
      for (const row of rows) row.hidden = !tests.every((test) => test(row));
      shown.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
    };
    choose();
    box.append(shown);
    table.closest(".scroll").before(box);
  }

  // Runs: what is not chosen is hidden, in tables, figures and texts alike. ------------------------
  const boxes = [...document.querySelectorAll("#runs input")];
  for (const box of boxes) {
    box.addEventListener("change", () => {
      hiddenRuns.clear();
      for (const one of boxes) if (!one.checked) hiddenRuns.add(Number(one.value));
      for (const part of document.querySelectorAll("[data-run]")) {
        part.hidden = hiddenRuns.has(Number(part.dataset.run));
      }
      drawAll();
    });
  }
  dark.addEventListener("change", drawAll);
  drawAll();
})();
