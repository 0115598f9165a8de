// Draws the charts of FIGURES (Vega-Lite, by the element's id) in the page's own colours.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const drawn = new Map();

function look(element) {
  const style = getComputedStyle(document.documentElement);
  const get = name => style.getPropertyValue(name).trim();
  const [text, soft, line] = [get("--text"), get("--soft"), get("--line")];
  const width = element.clientWidth;
  const columns = Math.max(1, Math.floor(width / 230));
  return {
    background: "transparent",
    font: getComputedStyle(document.body).fontFamily,
    view: {stroke: line},
    axis: {labelColor: text, titleColor: text, gridColor: line, domainColor: soft, tickColor: soft,
      labelFontSize: 12, titleFontSize: 13, titleFontWeight: "normal", labelLimit: Math.max(110, width * 0.35), titleLimit: width * 0.8},
    legend: {labelColor: text, titleColor: text, labelFontSize: 12, columns, labelLimit: width / columns - 50},
    text: {color: text},
    title: {color: text},
  };
}

async function draw(id) {
  const element = document.getElementById(id);
  const section = element.closest("section");
  drawn.get(id)?.finalize();
  const {view, finalize} = await vegaEmbed(element, FIGURES[id].chart, {
    actions: false, renderer: "svg", config: look(element), tooltip: {theme: "custom"},
  });
  drawn.set(id, {finalize, view, width: element.clientWidth});
  AFTER[section?.dataset.kind]?.(section, id, view);
}

const redraw = () => { for (const id of drawn.keys()) draw(id); };
let AFTER = {};

// Charts are drawn when they come near the window: a long page opens at once.
function watchFigures(after) {
  AFTER = after;
  const watcher = new IntersectionObserver(entries => {
    for (const {isIntersecting, target} of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      draw(target.id);
    }
  }, {rootMargin: "600px"});
  document.querySelectorAll(".plot").forEach(plot => watcher.observe(plot));
  dark.addEventListener("change", redraw);
  let waiting = 0;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      for (const [id, {width}] of drawn) if (document.getElementById(id).clientWidth !== width) draw(id);
    }, 200);
  });
  window.addEventListener("beforeprint", () => Object.keys(FIGURES).forEach(id => drawn.has(id) || draw(id)));
}
