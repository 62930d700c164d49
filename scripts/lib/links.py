#!/usr/bin/env python3
"""Checks that the pages (*.md) of this clone lead somewhere: relative links and their headings, and `names.rs` of
files. Prints what does not, a line each; the exit status is then 1."""

import os
import re
import sys

FILES = []
for directory, below, names in os.walk("."):
    # Not what is built or downloaded, nor git's own.
    below[:] = [name for name in below if name not in (".git", "target")]
    FILES += [os.path.normpath(os.path.join(directory, name)) for name in names]


def exists(path):
    return path in FILES or any(name.startswith(path + "/") for name in FILES)


def headings(text):
    """The anchors that GitHub makes of a page's headings."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    for heading in re.findall(r"^#+ (.*)$", text, re.M):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        yield re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def wrong(page, text, anchors):
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, heading = link.partition("#")
        target = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
        if not exists(target):
            yield f"no file: {link}"
        elif heading and heading not in anchors.get(target, [heading]):
            yield f"no such heading: {link}"
    for name in re.findall(r"`([a-z0-9_/-]+\.rs)`", text):
        if not any(file == name or file.endswith("/" + name) for file in FILES):
            yield f"no file of this name: {name}"


texts = {}
for file in FILES:
    if file.endswith(".md"):
        with open(file, encoding="utf-8") as page:
            texts[file] = page.read()
anchors = {page: set(headings(text)) for page, text in texts.items()}
problems = [f"{page}: {problem}" for page, text in texts.items() for problem in wrong(page, text, anchors)]
for problem in problems:
    print(problem)
sys.exit(bool(problems))
