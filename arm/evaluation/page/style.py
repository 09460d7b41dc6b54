"""The style of the report page: the system's font, light and dark, one accent."""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The browser itself refuses scripts and addresses, whatever a caption may hold."""

STYLE = """
:root{color-scheme:light dark;--ground:#fbfbfa;--card:#fff;--ink:#1d1f23;--soft:#676c75;--rule:#e4e4e0;--accent:#2f6fde;
--good:#1a7f4b;--bad:#c0392b;--track:#e9e9e5;--s0:#0072b2;--s1:#d55e00;--s2:#009e73;--s3:#cc79a7;--s4:#e69f00;--s5:#56b4e9;
--s6:#7a7a78;--s7:#8b5a2b}
@media (prefers-color-scheme:dark){:root{--ground:#14161a;--card:#1b1e24;--ink:#e6e7ea;--soft:#9aa0aa;--rule:#2c3038;
--accent:#7aa7ff;--good:#5fca92;--bad:#ff8577;--track:#2a2e36;--s0:#4ba3dc;--s1:#f28a4b;--s2:#36bf97;--s3:#dfa0c4;--s4:#efbb4d;--s5:#9bd3f2;
--s6:#a3a5a8;--s7:#c08d5f}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1280px;margin:0 auto;padding:40px 24px 80px}
header h1{font-size:30px;font-weight:650;letter-spacing:-.02em;margin:0 0 4px}
h2{font-size:20px;font-weight:650;letter-spacing:-.01em;margin:0 0 4px}
h3{font-size:15px;font-weight:600;margin:22px 0 8px}
h3 small,td small{color:var(--soft);font-weight:400}
p.note,header p{color:var(--soft);margin:0 0 14px;max-width:78ch}
section{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:22px 24px;margin-top:20px}
nav{margin-top:14px;font-size:13px;display:flex;flex-wrap:wrap;gap:2px 14px}
nav a{color:var(--accent);text-decoration:none;white-space:nowrap}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-top:22px}
.tiles div{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:14px 16px}
.tiles b{display:block;font-size:26px;font-weight:650;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.tiles span{display:block;color:var(--soft);font-size:13px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:6px 14px 6px 0;border-bottom:1px solid var(--rule);vertical-align:top}
thead th{color:var(--soft);font-weight:500;white-space:nowrap;vertical-align:bottom}
tbody th{font-weight:500;white-space:nowrap}
tbody tr:last-child>*{border-bottom:0}
.scores td{white-space:nowrap}
.chain td{min-width:90px}
.chain td:nth-child(2){min-width:230px}
.chain td:nth-child(3),.chain td:nth-child(4){min-width:200px;color:var(--soft)}
.chain td:nth-child(5),.chain td:nth-child(6){white-space:nowrap}
code{font:12px/1.4 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
details{margin-top:8px}
summary{cursor:pointer;color:var(--soft);font-size:13px}
.verdict{font-weight:600}
.good{color:var(--good)}
.bad,.refused{color:var(--bad)}
.chip{display:inline-block;border:1px solid var(--rule);border-radius:99px;padding:1px 10px;margin:0 6px 4px 0}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:14px}
figure{margin:0}
.chart figcaption{display:flex;justify-content:space-between;font-size:12px;color:var(--soft)}
.chart figcaption b{color:var(--ink);font-weight:600}
.chart svg{width:100%;height:auto;display:block}
.curve{fill:none;stroke:var(--accent);stroke-width:1.6;stroke-linejoin:round}
.curve.beside{stroke:var(--soft);stroke-dasharray:3 2;stroke-width:1.2}
.group{margin-top:14px}
.rule{stroke:var(--rule);stroke-width:1}
.axis{fill:var(--soft);font-size:9px}
.end{text-anchor:end}
.interval{width:120px;height:14px;display:block}
.track{fill:var(--track)}
.bar{fill:var(--accent);opacity:.75}
.whisker{stroke:var(--ink);stroke-width:2}
.floor{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:2 2}
.whisker.thin{stroke-width:1.2}
.series0{fill:var(--s0);background:var(--s0)}.series1{fill:var(--s1);background:var(--s1)}
.series2{fill:var(--s2);background:var(--s2)}.series3{fill:var(--s3);background:var(--s3)}
.series4{fill:var(--s4);background:var(--s4)}.series5{fill:var(--s5);background:var(--s5)}
.series6{fill:var(--s6);background:var(--s6)}.series7{fill:var(--s7);background:var(--s7)}
.swatch{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px;vertical-align:-1px}
.legend{color:var(--soft);font-size:13px;margin:4px 0 12px}
.legend span{margin-right:18px;white-space:nowrap}
.bars-of{columns:300px;column-gap:34px}
.bars-of figure{break-inside:avoid;padding-bottom:22px}
.bars figcaption{font-size:13px;font-weight:600;margin-bottom:6px}
.bars figcaption small{display:block;color:var(--soft);font-weight:400}
.bars svg{width:100%;max-width:420px;height:auto;display:block}
.bars rect{opacity:.85}
.label{fill:var(--soft);font-size:11px}
.said{fill:var(--ink);font-size:10.5px;font-variant-numeric:tabular-nums}
.beside{border-collapse:separate;border-spacing:0}
.beside th,.beside td{padding-right:18px}
.beside tbody th{position:sticky;left:0;background:var(--card)}
.beside td{white-space:nowrap}
.beside td small,.beside td b{display:block}
.beside td b{font-size:15px;font-weight:650}
.beside .mark{all:unset;color:var(--soft);font-weight:400;cursor:help}
.beside .ours th{font-weight:650}
.beside .head th{color:var(--soft);font-weight:500;font-size:12px;padding-top:16px}
.beside .published td,.beside .published th{padding-top:4px;padding-bottom:4px;border-bottom:0}
.beside .published th{font-weight:400}
.beside .source{color:var(--soft);font-size:12px}
p.after{margin-top:18px}
.compared th small{display:block}
.compared th.below{padding-left:16px;font-weight:400}
.compared td small{display:block}
.compared td.why{white-space:normal}
.compared .plain{color:var(--soft);font-weight:400}
.notes{margin:12px 0 0;padding:0;list-style:none;font-size:13px;color:var(--soft);max-width:100ch}
.notes li{margin:2px 0}
.notes b{color:var(--ink);font-weight:550}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(230px,46%),1fr));gap:18px 16px;margin:8px 0 18px}
.grid figure img{width:100%;height:auto;display:block;border-radius:8px;background:var(--track);margin-bottom:6px}
.grid img.small{image-rendering:pixelated}
.grid figcaption{font-size:12.5px;line-height:1.4;overflow-wrap:anywhere}
.grid figcaption small,.asked small{display:block;color:var(--soft)}
.grid .none{display:flex;align-items:center;justify-content:center;aspect-ratio:1;border-radius:8px;background:var(--track);
color:var(--soft);font-size:12px;margin-bottom:6px}
.asked td{overflow-wrap:anywhere;min-width:90px}
.asked td:first-of-type,.asked tbody th{min-width:220px;white-space:normal;font-weight:400}
.word{font-weight:650;white-space:nowrap}
.word.part{color:var(--soft)}
tr.regression th,tr.regression td{background:color-mix(in srgb,var(--bad) 9%,transparent)}
.pictures table{width:auto}
.pictures th,.pictures td{border:0;padding:3px 6px 3px 0;font-size:12px}
.pictures th{color:var(--soft);font-weight:500;padding-right:12px;vertical-align:middle;white-space:nowrap;
position:sticky;left:0;background:var(--card)}
.pictures td{position:relative}
.prompts td{width:var(--tile);min-width:var(--tile);max-width:var(--tile);line-height:1.3;overflow-wrap:anywhere}
.tile{display:block;border-radius:6px;background-repeat:no-repeat;image-rendering:pixelated}
.mark{position:absolute;left:5px;bottom:6px;width:18px;height:18px;line-height:18px;text-align:center;border-radius:99px;
background:var(--card);font-size:12px;font-weight:700}
.sample{max-width:100%;image-rendering:pixelated;border-radius:6px}
.sample.photographs{image-rendering:auto}
@media (max-width:600px){main{padding:24px 10px 60px}section{padding:16px 14px}
.asked td{min-width:84px}.asked td:first-of-type,.asked tbody th{min-width:130px}.asked th,.asked td{padding-right:10px}}
@media print{section{break-inside:avoid}}
"""
