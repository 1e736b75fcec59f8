"""The page: a header and three tabs over the package's own functions.

`launch.serve` starts it, `page.create_ui` builds it. `render`, `charts`, `live`, `dialogue` and
`readings` hold what can be tested without a browser; the tabs only read widgets, call and render.
"""
