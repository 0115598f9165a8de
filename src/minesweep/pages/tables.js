// Tables of the class "sortable": a heading's button sorts; an input whose data-filters names the
// table keeps the rows that hold all its words. Others may set further conditions with keep().
const TABLES = new Map();

function sortable(table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const texts = rows.map(row => row.textContent.toLowerCase());
  const conditions = new Map();
  const told = document.querySelector(`[data-counts="${table.id}"]`);

  // "−0.48 [−1.26, +0.30]" sorts by -0.48, "< 0.0001" by 0.0001, a dash comes last.
  function value(row, column) {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    if (text === "" || text === "–") return null;
    const match = text.replace(/\u2212/g, "-").replace(/,(?=\d{3})/g, "").match(/^[<+]?\s*(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![\w:-])/);
    return match ? Number(match[1]) : text;
  }

  function compare(one, other) {
    if (typeof one === "number" && typeof other === "number") return one - other;
    return String(one).localeCompare(String(other), undefined, {numeric: true});
  }

  function sort(column, descending) {
    const keyed = rows.map((row, place) => [value(row, column), place, row]);
    const sign = descending ? -1 : 1;
    keyed.sort((a, b) => (a[0] === null) - (b[0] === null)
      || (a[0] === null ? 0 : sign * compare(a[0], b[0])) || a[1] - b[1]);
    const sorted = document.createDocumentFragment();
    for (const [, , row] of keyed) sorted.append(row);
    body.append(sorted);
    heads.forEach((head, place) => {
      if (place === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }

  function keep(name, condition) {
    if (condition) conditions.set(name, condition);
    else conditions.delete(name);
    const all = [...conditions.values()];
    let shown = 0;
    rows.forEach((row, place) => {
      const hidden = !all.every(holds => holds(row, texts[place]));
      if (row.hidden !== hidden) row.hidden = hidden;
      shown += !hidden;
    });
    if (told) told.textContent = all.length ? `${shown} of ${rows.length} shown` : `${rows.length} shown`;
    return shown;
  }

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      sort(column, head.getAttribute("aria-sort") === "ascending");
      table.dispatchEvent(new CustomEvent("sorted", {detail: {column}}));
    });
  });
  for (const input of document.querySelectorAll(`input[data-filters="${table.id}"]`)) {
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      keep("words", words.length ? (row, text) => words.every(word => text.includes(word)) : null);
    });
  }
  keep("", null);
  TABLES.set(table.id, {sort, keep, heads});
}

document.querySelectorAll("table.sortable").forEach(sortable);
