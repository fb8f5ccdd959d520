"""The page in a browser, without window and network; skipped where none is installed."""

import shutil

import pytest

from robust_tf import report
from robust_tf.report import entries, leaderboard

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not BROWSER or not DRIVER,
    reason="no Chromium with its driver here (Debian: apt-get install chromium chromium-driver): "
    "the report was not opened in a browser",
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
).split()
# Text whose contrast with what is behind it is below 4.5, WCAG's AA.
FAINT = """
const parts = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
const light = (rgb) => {
  const even = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = rgb.map((v) => even(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (e) => {
  for (; e; e = e.parentElement) {
    const c = parts(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c.slice(0, 3);
  }
  return [255, 255, 255];
};
const faint = [];
for (const e of document.querySelectorAll("body *:not(script):not(style):not(noscript)")) {
  if (e.closest("svg") || !e.getClientRects().length) continue;
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
  const a = light(parts(getComputedStyle(e).color).slice(0, 3)), b = light(behind(e));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) faint.push([ratio.toFixed(2), e.tagName, e.textContent.slice(0, 40)]);
}
return faint;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory, page):
    """Chromium with the report open, drawn; at 1280 pixels, light."""
    folder = tmp_path_factory.mktemp("browser")
    report.write(str(folder / "report.html"), page)
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in [*FLAGS, f"--user-data-dir={folder / 'profile'}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    try:
        look(driver, 1280, "light")
        driver.get((folder / "report.html").as_uri())
        drawn(driver)
        yield driver
    finally:
        driver.quit()


def look(driver, width, theme):
    asked = {"prefers-color-scheme": theme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in asked.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def drawn(driver):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 60, 0.1).until(
        lambda d: d.execute_script(
            "return document.body.dataset.ready === 'yes' &&"
            "[...document.querySelectorAll('.chart svg.main-svg')].every((s) =>"
            " s.getBoundingClientRect().width <= s.closest('.chart').clientWidth + 1)"
        )
    )


def test_every_chart_is_drawn_without_errors_or_requests(browser):
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert severe == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    empty = browser.execute_script(
        "return [...document.querySelectorAll('.chart')].filter((c) => !c.querySelector("
        "'.point, .scatterlayer .trace, .heatmaplayer image, canvas')).map((c) => c.id)"
    )
    assert empty == []
    assert browser.execute_script("return document.querySelectorAll('.chart').length") >= 12
    images = "return [...document.images].every((i) => i.complete && i.naturalWidth > 0)"
    assert browser.execute_script(images)


@pytest.mark.parametrize("width, theme", [(390, "dark"), (390, "light"), (1280, "dark")])
def test_it_is_readable_at_this_width(browser, width, theme):
    look(browser, width, theme)
    drawn(browser)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert browser.execute_script(FAINT) == []
        wide = browser.execute_script(
            "return [...document.querySelectorAll('.chart, .scroll, pre, p, li, dd')].filter((e) =>"
            f" e.getBoundingClientRect().right > {width}).map((e) => e.id || e.textContent)"
        )
        assert wide == []
        sizes = "return [...document.querySelectorAll('p, td, th, li, dd')]"
        sizes += ".map((e) => parseFloat(getComputedStyle(e).fontSize))"
        assert min(browser.execute_script(sizes)) >= 12
    finally:
        look(browser, 1280, "light")
        drawn(browser)


def column(driver, table, index):
    return driver.execute_script(
        f"return [...document.querySelectorAll('#{table} tbody tr')]"
        f".map((r) => r.cells[{index}].dataset.value || r.cells[{index}].textContent)"
    )


def test_tables_sort_by_mouse_and_by_keyboard(browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    heads = browser.find_elements(By.CSS_SELECTOR, "#table-attacks thead th")
    index = next(k for k, head in enumerate(heads) if head.text.startswith("Accuracy"))
    button = heads[index].find_element(By.TAG_NAME, "button")
    button.click()
    values = [float(value) for value in column(browser, "table-attacks", index)]
    assert values == sorted(values) and len(set(values)) > 2
    assert heads[index].get_attribute("aria-sort") == "ascending"
    button.send_keys(Keys.ENTER)
    values = [float(value) for value in column(browser, "table-attacks", index)]
    assert values == sorted(values, reverse=True)
    assert heads[index].get_attribute("aria-sort") == "descending"
    heads[0].find_element(By.TAG_NAME, "button").send_keys(Keys.SPACE)
    names = [name.lower() for name in column(browser, "table-attacks", 0)]
    assert names == sorted(names)
    assert heads[index].get_attribute("aria-sort") == "none"
    # What has no value stays last, either way.
    steps = next(k for k, head in enumerate(heads) if head.text.startswith("Seconds"))
    for _ in range(2):
        heads[steps].find_element(By.TAG_NAME, "button").click()
        values = column(browser, "table-attacks", steps)
        assert "–" in values and "–" not in values[: values.index("–")]
        assert set(values[values.index("–") :]) == {"–"}


def test_hovering_tells_the_value(browser):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    chart = browser.find_element(By.ID, "chart-accuracies")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    bar = chart.find_element(By.CSS_SELECTOR, ".barlayer .point path")
    ActionChains(browser).move_to_element(bar).pause(0.3).perform()
    label = WebDriverWait(browser, 10, 0.1).until(
        lambda d: chart.find_elements(By.CSS_SELECTOR, ".hoverlayer .hovertext")
    )
    assert "natural" in label[0].text and "%" in label[0].text


def test_runs_can_be_chosen(browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    shown = "return [...document.querySelectorAll('[data-run=\"1\"]')].filter((e) => !e.hidden)"
    traces = "return document.getElementById('chart-accuracies').data.length"
    assert browser.execute_script(f"{shown}.length") > 5 and browser.execute_script(traces) == 2
    box = browser.find_element(By.ID, "run-1")
    box.send_keys(Keys.SPACE)
    drawn(browser)
    assert browser.execute_script(f"{shown}.length") == 0 and browser.execute_script(traces) == 1
    box.send_keys(Keys.SPACE)
    drawn(browser)
    assert browser.execute_script(f"{shown}.length") > 5 and browser.execute_script(traces) == 2


def test_the_keyboard_gets_everywhere_and_is_seen(browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def body():
        return browser.find_element(By.TAG_NAME, "body")

    browser.refresh()  # so that nothing has been clicked
    drawn(browser)
    seen = []
    for _ in range(12):
        (browser.switch_to.active_element if seen else body()).send_keys(Keys.TAB)
        found = browser.execute_script(
            "const e = document.activeElement, s = getComputedStyle(e);"
            "return [e.tagName, e.className || e.id || e.textContent, s.outlineStyle]"
        )
        seen.append(tuple(found))
    assert seen[0][:2] == ("A", "skip")
    assert all(outline != "none" for _, _, outline in seen)
    assert {"INPUT", "A"} <= {tag for tag, _, _ in seen}


def test_rows_of_a_leaderboard_can_be_chosen_and_sorted(browser, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    def entry(name, data, robust, seconds):
        return entries.Entry(name, {"": robust}, 100, data, training_seconds=seconds)

    made = [entry("a", "mnist", 0.2, 60), entry("b", "mnist", 0.3, 6000), entry("c", "x", 0.1, 60)]
    page = leaderboard.build([*made, *entries.published()], [], "results", "bin/report", "today")
    report.write(str(tmp_path / "leaderboard.html"), page)
    browser.get((tmp_path / "leaderboard.html").as_uri())
    drawn(browser)

    def shown():
        rows = browser.find_elements(By.CSS_SELECTOR, "#table-leaderboard tbody tr")
        return [row.find_element(By.TAG_NAME, "th").text for row in rows if row.is_displayed()]

    labels = browser.find_elements(By.CSS_SELECTOR, ".filters label")
    controls = {one.text.splitlines()[0]: one for one in labels}
    choose = {
        name: one.find_element(By.CSS_SELECTOR, "select, input") for name, one in controls.items()
    }
    count = browser.find_element(By.CSS_SELECTOR, ".filters output")
    assert count.text == "11 of 11 rows"
    Select(choose["Data"]).select_by_visible_text("mnist")
    Select(choose["Measured"]).select_by_visible_text("here")
    assert shown() == ["b", "a"] and count.text == "2 of 11 rows"
    choose["Training, minutes, at most"].send_keys("2")
    assert shown() == ["a"]
    Select(choose["Data"]).select_by_visible_text("all")
    assert shown() == ["a", "c"]
    Select(choose["Measured"]).select_by_visible_text("all")
    assert shown() == ["a", "c"]  # what is not known is not at most 2
    choose["Training, minutes, at most"].clear()
    [head] = browser.find_elements(By.XPATH, "//th/button[starts-with(., 'Worst case')]")
    browser.execute_script("arguments[0].click()", head)  # wherever it is scrolled to
    assert shown()[:3] == ["c", "a", "b"] and len(shown()) == 11
    for narrow in (390, 1280):
        look(browser, narrow, "light")
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= narrow and browser.execute_script(FAINT) == []
