"""The style sheet of reports."""

STYLE = """
:root {
  --ink: #1d2430; --soft: #5c6675; --line: #e2e6ec; --paper: #ffffff; --back: #f6f7f9;
  --accent: #2563a8; --floor: #b4571f;
}
* { box-sizing: border-box }
body {
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, sans-serif;
  color: var(--ink); background: var(--back); margin: 0;
}
header, main { max-width: 72rem; margin: 0 auto; padding: 0 1.25rem }
header { padding-top: 2.2rem }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem }
h2 { font-size: 1.35rem; margin: 0 0 .6rem }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem }
h4 { font-size: .86rem; font-weight: 600; line-height: 1.3; margin: 0 0 .35rem; overflow-wrap: anywhere }
p { margin: .4rem 0; max-width: 46rem }
.note, header p { color: var(--soft) }
.note { font-size: .9rem }
nav { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; margin: .8rem 0 1.2rem }
a { color: var(--accent); text-decoration: none }
a:hover { text-decoration: underline }
section {
  background: var(--paper); border: 1px solid var(--line); border-radius: 12px;
  padding: 1.3rem 1.4rem 1.6rem; margin: 0 0 1.4rem;
}
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: .8rem }
.cards.wide { grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)) }
.cards.one { grid-template-columns: 1fr }
.card {
  border: 1px solid var(--line); border-radius: 9px; padding: .7rem .8rem; min-width: 0;
  display: flex; flex-direction: column;
}
.card p { font-size: .9rem; margin: .35rem 0 0; overflow-wrap: anywhere; white-space: pre-line }
.card span { color: var(--soft); font-size: .76rem }
.cards:not(.wide, .one) h4 + .pictures { margin-top: auto }
.pictures { display: flex; flex-wrap: nowrap; gap: .5rem }
.picture { display: flex; flex-direction: column; flex: 0 1 8rem; min-width: 0; text-align: center }
.picture img {
  width: 100%; aspect-ratio: 1; border-radius: 6px; background: #fff; border: 1px solid var(--line);
}
.sound { display: block; margin: .3rem 0 }
.sound span { display: block }
audio { width: 100%; height: 34px; display: block }
figure.drawing { margin: .8rem 0 }
figure.drawing img { max-width: 100% }
figure.chart {
  display: inline-block; width: min(100%, 20.8rem); margin: .4rem .5rem .4rem 0; vertical-align: top;
}
figcaption { font-size: .92rem }
figcaption span { color: var(--soft); font-size: .82rem }
svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; fill: var(--soft) }
svg .grid { stroke: var(--line) }
svg line.floor { stroke: var(--floor); stroke-dasharray: 5 4 }
svg text.floor { fill: var(--floor) }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .86rem; margin: .4rem 0; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .3rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top }
td { white-space: nowrap }
th { font-weight: 600; color: var(--soft) }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
td:first-child { white-space: normal; min-width: 12rem }
code, pre { font-family: ui-monospace, "Cascadia Mono", Menlo, monospace; font-size: .88em }
pre {
  background: var(--back); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem;
  overflow-x: auto; line-height: 1.6;
}
@media (max-width: 34rem) {
  section { padding: 1rem }
  .cards { grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)) }
  .cards.wide { grid-template-columns: 1fr }
}
"""
