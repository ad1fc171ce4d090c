"""The style sheet of the report, and the content security policy that allows nothing else."""

from __future__ import annotations

import base64
import hashlib

STYLE = """
:root { color-scheme: light dark; --paper: #fbfbfd; --ink: #1c1c22; --faint: #5d5d6b; --line: #d8d8e2;
  --card: #fff; --good: #14692f; --bad: #b3141d; --open: #7a5200; --accent: #0b57b0; }
@media (prefers-color-scheme: dark) { :root { --paper: #15161a; --ink: #ececf2; --faint: #a6a6b6; --line: #383a44;
  --card: #1d1f25; --good: #6fd690; --bad: #ff8b8b; --open: #f0c25c; --accent: #86b9ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.25rem clamp(.75rem, 3vw, 2rem) 3rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.25rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 0 0 .25rem; }
p { margin: .25rem 0; }
a { color: var(--accent); }
a:focus-visible, .scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.faint { color: var(--faint); }
.good { color: var(--good); } .bad { color: var(--bad); } .open { color: var(--open); }
.answer { font-weight: 600; }
.scroll { overflow-x: auto; margin: 0 0 .9rem; }
table { border-collapse: collapse; font-size: .92rem; overflow-wrap: normal; }
th, td { text-align: left; vertical-align: top; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line);
  max-width: 26rem; overflow-wrap: break-word; }
th { font-weight: 600; white-space: nowrap; }
tbody th { font-weight: 400; white-space: normal; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem;
  margin: 0 0 1rem; }
blockquote { margin: .25rem 0 .5rem; padding: 0 0 0 .75rem; border-left: 3px solid var(--line); }
ul { margin: .25rem 0 .5rem; padding-left: 1.25rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: .9rem; }
figure { margin: 0; max-width: 40rem; }
figure img { display: block; width: 100%; height: auto; border-radius: .35rem; }
figure.generated img { outline: 3px solid var(--accent); }
figcaption { font-size: .88rem; padding-top: .3rem; }
.gone { border: 1px dashed var(--line); border-radius: .35rem; padding: 1.25rem .9rem; color: var(--faint); }
@media print { article { break-inside: avoid; } }
"""


def policy() -> str:
    """Return the content security policy, which allows only this style sheet and pictures in `data:` URIs."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
