"""Everything in `dir(robust_tf)`, with the first line of its documentation."""

import inspect

import robust_tf

for name in dir(robust_tf):
    value = getattr(robust_tf, name)
    text = value if isinstance(value, str) else inspect.getdoc(value) or ""
    print(f"{name:12} {text.splitlines()[0]}")
