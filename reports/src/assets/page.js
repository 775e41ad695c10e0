"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const table = byId("layer-table");
  const form = document.querySelector(".controls");

  // The parameters after "#" in the address: sort, dir, filter, verdict. An anchor has no "=".
  const readAddress = () => {
    const text = location.hash.slice(1);
    return new URLSearchParams(text.includes("=") ? text : "");
  };

  const state = { sort: "depth", dir: "asc", filter: "", verdict: "" };

  const at = (key) => Math.max(0, columns.findIndex((column) => column.dataset.key === key));
  const columns = table ? [...table.querySelectorAll("th[data-key]")] : [];
  const rows = table ? [...table.querySelectorAll("tbody tr[data-name]")] : [];

  // Cells are sorted as numbers. NaN is the worst value and comes after infinity; cells that were not
  // measured come last in either direction.
  const NUMBERS = { NaN: [1, 0], inf: [0, Infinity], "-inf": [0, -Infinity] };
  const numberOf = (cell) => {
    const text = cell.dataset.v ?? cell.textContent;
    if (text === "–") return null;
    return NUMBERS[text] ?? [0, Number(text)];
  };
  const compareNumbers = (a, b) => a[0] - b[0] || (a[1] < b[1] ? -1 : a[1] > b[1] ? 1 : 0);
  const compareTexts = (a, b) => a.localeCompare(b, "en", { numeric: true });

  const sortRows = () => {
    const chosen = at(state.sort);
    const numeric = columns[chosen].classList.contains("num");
    const sign = state.dir === "desc" ? -1 : 1;
    const keyed = rows.map((row, index) => {
      const cell = row.cells[chosen];
      return { row, index, key: numeric ? numberOf(cell) : cell.textContent };
    });
    const compare = numeric ? compareNumbers : compareTexts;
    keyed.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.index - b.index;
      return sign * compare(a.key, b.key) || a.index - b.index;
    });
    table.tBodies[0].append(...keyed.map(({ row }) => row));
    const direction = sign < 0 ? "descending" : "ascending";
    columns.forEach((column, i) => column.setAttribute("aria-sort", i === chosen ? direction : "none"));
  };

  // An alias selects its module and all modules below it; other words are searched for.
  const matcher = (text) => {
    const wanted = text.trim().toLowerCase();
    const named = rows.find((row) => (row.dataset.alias ?? "").toLowerCase() === wanted);
    if (wanted && named) {
      const path = named.dataset.name;
      return (row) => row.dataset.name === path || row.dataset.name.startsWith(path + ".");
    }
    const words = wanted.split(/\s+/);
    return (row) => {
      const { name, alias = "" } = row.dataset;
      const text = `${name} ${alias} ${row.cells[at("kind")].textContent}`.toLowerCase();
      return words.every((word) => text.includes(word));
    };
  };

  const filterRows = () => {
    const matches = matcher(state.filter);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !(matches(row) && (!state.verdict || row.dataset.verdict === state.verdict));
      shown += !row.hidden;
    }
    form.querySelector("[data-shown]").textContent = `${shown} of ${rows.length} shown`;
    for (const button of form.querySelectorAll("[data-verdict]")) {
      button.setAttribute("aria-pressed", String(button.dataset.verdict === state.verdict));
    }
  };

  const show = () => {
    sortRows();
    filterRows();
    form.elements.filter.value = state.filter;
  };

  const writeAddress = () => {
    const address = new URLSearchParams();
    if (state.sort !== "depth" || state.dir !== "asc") {
      address.set("sort", state.sort);
      address.set("dir", state.dir);
    }
    if (state.filter) address.set("filter", state.filter);
    if (state.verdict) address.set("verdict", state.verdict);
    history.replaceState(null, "", "#" + (String(address) || "layers"));
  };

  const change = (changes) => {
    Object.assign(state, changes);
    show();
    writeAddress();
  };

  const usualDirection = (key) => {
    const column = columns.find((column) => column.dataset.key === key);
    return column && "down" in column.dataset ? "desc" : "asc";
  };

  const startTable = () => {
    form.addEventListener("submit", (event) => event.preventDefault());
    form.elements.filter.addEventListener("input", (event) => change({ filter: event.target.value }));
    form.addEventListener("click", (event) => {
      const button = event.target.closest("[data-verdict]");
      if (button) change({ verdict: button.dataset.verdict });
    });
    for (const column of columns) {
      column.querySelector("button").addEventListener("click", () => {
        const { key } = column.dataset;
        const turned = state.dir === "asc" ? "desc" : "asc";
        change({ sort: key, dir: key === state.sort ? turned : usualDirection(key) });
      });
    }
  };

  // Applies the address: the state of the table, or a block to open.
  const followAddress = () => {
    const address = readAddress();
    if (table && [...address.keys()].length) {
      const known = columns.some((column) => column.dataset.key === address.get("sort"));
      const sort = known ? address.get("sort") : "depth";
      const dir = ["asc", "desc"].includes(address.get("dir")) ? address.get("dir") : usualDirection(sort);
      Object.assign(state, { sort, dir, filter: address.get("filter") ?? "", verdict: address.get("verdict") ?? "" });
      show();
      byId("layers").scrollIntoView();
    }
    let target = null;
    try { target = byId(decodeURIComponent(location.hash.slice(1))); } catch { /* not a valid anchor */ }
    if (target instanceof HTMLDetailsElement) {
      target.open = true;
      target.scrollIntoView();
    }
  };

  // Shows the values of the layer under the pointer in a plot, which are read from the table.
  const startReadout = () => {
    const readout = byId("readout");
    const inOrder = [...rows];
    const part = (name, text) => {
      const span = document.createElement("span");
      span.className = name;
      span.textContent = text;
      return span;
    };
    const cellOf = (row, key) => row.cells[at(key)].textContent;
    const layerAt = (svg, event) => {
      const box = svg.getBoundingClientRect();
      const { left, right, count } = svg.dataset;
      const along = ((event.clientX - box.left) / box.width - left) / (right - left);
      return along < 0 || along > 1 ? -1 : Math.min(Math.floor(along * count), count - 1);
    };
    const mark = (figure, svg, index) => {
      const cursor = figure.querySelector(".cursor") ?? figure.appendChild(part("cursor", ""));
      const { left, right, count } = svg.dataset;
      const x = Number(left) + ((index + 0.5) / count) * (right - left);
      cursor.style.cssText = `left:${x * svg.clientWidth}px;top:${svg.parentNode.offsetHeight - svg.clientHeight}px;height:${svg.clientHeight}px`;
    };
    for (const figure of document.querySelectorAll(".plot")) {
      figure.addEventListener("pointermove", (event) => {
        const svg = event.target.closest("svg");
        const row = svg && inOrder[layerAt(svg, event)];
        if (!row) return;
        mark(figure, svg, inOrder.indexOf(row));
        const [a, b] = figure.dataset.plot === "ratio" ? ["ratio", "inherited"] : ["rel_l2", "inherited_rel_l2"];
        readout.hidden = false;
        readout.replaceChildren(
          part("path", row.dataset.name),
          part("c-introduced", `own ${cellOf(row, a)}`),
          part("c-inherited", `accumulated ${cellOf(row, b)}`),
        );
      });
      figure.addEventListener("pointerleave", () => {
        readout.hidden = true;
        figure.querySelector(".cursor")?.remove();
      });
      figure.addEventListener("click", (event) => {
        const svg = event.target.closest("svg");
        const row = svg && inOrder[layerAt(svg, event)];
        if (row) change({ filter: row.dataset.name, verdict: "" });
        if (row) byId("layers").scrollIntoView();
      });
    }
  };

  const startCopy = () => {
    for (const button of document.querySelectorAll("[data-copy]")) {
      if (!navigator.clipboard) continue;
      button.hidden = false;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(button.parentNode.querySelector("code").textContent);
        button.textContent = "Copied";
      });
    }
  };

  // With "#selfcheck" the page stores facts about its layout as attributes, for tests/browser.rs.
  const selfCheck = () => {
    const root = document.documentElement;
    const style = getComputedStyle(document.body);
    Object.assign(root.dataset, {
      overflow: root.scrollWidth - root.clientWidth,
      viewport: root.clientWidth,
      requests: performance.getEntriesByType("resource").length,
      paper: style.backgroundColor,
      ink: style.color,
    });
  };

  if (table) {
    startTable();
    startReadout();
    filterRows();
  }
  startCopy();
  followAddress();
  addEventListener("hashchange", followAddress);
  if (readAddress().has("selfcheck") || location.hash === "#selfcheck") selfCheck();
})();
