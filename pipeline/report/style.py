"""The page's style sheet: system fonts, light and dark by the reader's setting, tables that scroll on a phone."""

STYLE = """\
:root {
  --background: #ffffff; --text: #1b1f24; --muted: #5b6470; --line: #e4e7eb; --soft: #f5f7f9; --link: #1b5cc4;
  --holds: #0b6b4b; --fails: #a83a0c; --open: #5b6470;
}
@media (prefers-color-scheme: dark) {
  :root {
    --background: #14171c; --text: #e6e9ee; --muted: #9aa4b1; --line: #2b313a; --soft: #1b2027; --link: #8db4ff;
    --holds: #35e0c0; --fails: #f0a05a; --open: #9aa4b1;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.25rem 5rem; background: var(--background); color: var(--text);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
h1 { margin: 0; font-size: 2.1rem; line-height: 1.2; letter-spacing: -0.02em; }
h2 { margin: 3.25rem 0 0.75rem; font-size: 1.3rem; letter-spacing: -0.01em; scroll-margin-top: 1rem; }
p, ul { max-width: 46rem; text-wrap: pretty; }
a { color: var(--link); text-decoration: none; }
a:hover, a:focus { text-decoration: underline; }
.subtitle { max-width: none; margin: 0.4rem 0 1.2rem; color: var(--muted); }
nav { display: flex; flex-wrap: wrap; gap: 0.35rem 1.1rem; padding: 0.7rem 0; font-size: 0.9rem;
  border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 0.9rem; margin: 1.4rem 0; }
.tiles > div { padding: 1rem 1.1rem; border: 1px solid var(--line); border-radius: 10px; background: var(--soft); }
.tiles dt { color: var(--muted); font-size: 0.85rem; }
.tiles dd { margin: 0; color: var(--muted); font-size: 0.85rem; line-height: 1.45; }
.tiles dd.value { margin: 0.15rem 0 0.3rem; color: var(--text); font-size: 1.75rem; font-weight: 650; line-height: 1.2;
  letter-spacing: -0.02em; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; min-width: 60%; margin: 0.5rem 0 1.25rem; font-size: 0.9rem;
  font-variant-numeric: tabular-nums; }
caption { padding: 0 0 0.5rem; color: var(--muted); text-align: left; }
caption span { display: inline-block; max-width: min(46rem, calc(100vw - 4rem)); }
th { padding: 0.4rem 0.7rem; border-bottom: 1.5px solid var(--muted); color: var(--muted); font-weight: 600;
  vertical-align: bottom; white-space: nowrap; }
td { padding: 0.4rem 0.7rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child, td:first-child { padding-left: 0; min-width: 7.5rem; }
.left { text-align: left; }
.right { text-align: right; white-space: nowrap; }
tr.strong td { font-weight: 650; background: var(--soft); }
figure { margin: 1.25rem 0 1.75rem; }
figure img { display: block; max-width: 100%; min-width: min(34rem, var(--natural)); height: auto; }
figcaption { max-width: 46rem; margin-top: 0.5rem; color: var(--muted); font-size: 0.9rem; }
code { font: 0.86em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
pre { padding: 0.9rem 1rem; border-radius: 8px; background: var(--soft); overflow-x: auto; }
pre code { overflow-wrap: normal; }
td code { white-space: pre-wrap; }
.verdict { font-weight: 650; white-space: nowrap; }
.verdict.holds { color: var(--holds); }
.verdict.fails { color: var(--fails); }
.verdict.not-measured { color: var(--open); font-weight: 500; }
.verdict::before { content: ""; display: inline-block; width: 0.6em; height: 0.6em; margin-right: 0.45em;
  border: 1.5px solid currentColor; border-radius: 50%; }
.verdict.holds::before { background: currentColor; }
.verdict.fails::before { border-radius: 0; background: currentColor; transform: rotate(45deg); }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--link); }
@media (max-width: 40rem) {
  body { padding: 1.5rem 1rem 3rem; }
  h1 { font-size: 1.6rem; }
  .tiles { grid-template-columns: 1fr; }
}
@media print { nav { display: none; } figure, table { break-inside: avoid; } }
"""
