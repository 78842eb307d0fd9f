"""Render the leaderboard as a folder of pages that open from disk.

The pages need no network and no build step. Everything that comes from results (labels, settings,
notes, error messages) is untrusted: it is made printable and escaped where it is shown, and a
content security policy allows nothing but the style and the script that ship with the page.
"""

from leaderboard.render.site.folder import check_site_folder
from leaderboard.render.site.methods import Definition
from leaderboard.render.site.pages import write_site

__all__ = ["Definition", "check_site_folder", "write_site"]
