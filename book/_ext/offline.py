"""Sphinx: no script that would fetch from another site, and none twice."""


def local_scripts(app, pagename, templatename, context, doctree):
    kept, seen = [], set()
    for script in context.get("script_files", []):
        body = getattr(script, "attributes", {}).get("body", "")
        name = str(getattr(script, "filename", script) or body)
        # sphinx-thebe comes with Jupyter Book, offers a kernel from the network, and breaks when it is configured twice.
        if name in seen or "thebe" in name.lower():
            continue
        seen.add(name)
        kept.append(script)
    context["script_files"][:] = kept


def setup(app):
    app.connect("html-page-context", local_scripts, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
