"""Reports: from result rows and manifests to a page, tables, the README's results, and the papers' numbers
beside ours.
"""
