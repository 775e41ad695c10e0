
// Saves figures: the drawing as SVG, its table as CSV or LaTeX. Everything is made from the page itself.
(() => {
  // A drawing on its own has no style sheet, so the variables are replaced by the colours of the light theme.
  const lightColours = () => {
    const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]);
    return rules.find((rule) => rule.selectorText === ":root").style;
  };
  const toSvg = (figure) => {
    const shown = [...figure.querySelectorAll("svg")].find((svg) => svg.clientWidth > 0);
    const copy = (shown ?? figure.querySelector("svg")).cloneNode(true);
    const [, , width, height] = copy.getAttribute("viewBox").split(" ");
    copy.setAttribute("width", width);
    copy.setAttribute("height", height);
    copy.setAttribute("font-family", "sans-serif");
    copy.removeAttribute("class");
    const colours = lightColours();
    const text = new XMLSerializer().serializeToString(copy);
    return text.replace(/var\((--[\w-]+)\)/g, (_, name) => colours.getPropertyValue(name).trim());
  };

  const cells = (table) => [...table.rows].map((row) => [...row.cells].map((cell) => cell.dataset.exact ?? cell.textContent.trim()));
  // A spreadsheet would run a cell that begins like a formula, and names come from outside.
  const csvCell = (text) => {
    const safe = /^[=+@\t\r-]/.test(text) && Number.isNaN(Number(text)) ? "'" + text : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  const toCsv = (table) => cells(table).map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";
  const ESCAPES = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" };
  const texCell = (text) => text.replace(/[\\~^&%$#_{}]/g, (c) => ESCAPES[c] ?? "\\" + c).replace(/\s+/g, " ");
  const toTex = (table) => {
    const rows = [...table.rows].map((row) => [...row.cells].map((cell) => texCell(cell.textContent.trim())));
    const line = (row) => "  " + row.join(" & ") + " \\\\\n";
    const [head, ...body] = rows;
    return `\\begin{tabular}{${"l".repeat(1) + "r".repeat(Math.max(0, head.length - 1))}}\n  \\hline\n${line(head)}  \\hline\n${body.map(line).join("")}  \\hline\n\\end{tabular}\n`;
  };

  const save = (name, type, text) => {
    const link = document.createElement("a");
    link.download = name;
    link.href = `data:${type};charset=utf-8,${encodeURIComponent(text)}`;
    document.body.append(link);
    link.click();
    link.remove();
  };

  const tools = (name, makers) => {
    const line = document.createElement("p");
    line.className = "tools";
    line.append("Save as");
    for (const [ending, type, make] of makers) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = ending.toUpperCase() === "TEX" ? "LaTeX" : ending.toUpperCase();
      button.setAttribute("aria-label", `Save ${name} as ${button.textContent}`);
      button.dataset.save = ending;
      button.addEventListener("click", () => save(`${name}.${ending}`, type, make()));
      line.append(button);
    }
    return line;
  };

  const ofTable = (table) => [["csv", "text/csv", () => toCsv(table)], ["tex", "text/plain", () => toTex(table)]];
  document.querySelectorAll("figure.plot").forEach((figure, at) => {
    const name = `${figure.dataset.name ?? figure.dataset.plot ?? "figure"}-${at + 1}`;
    const table = figure.querySelector("table") ?? document.getElementById("layer-table");
    const makers = [["svg", "image/svg+xml", () => toSvg(figure)], ...(table ? ofTable(table) : [])];
    figure.insertBefore(tools(name, makers), figure.querySelector("details.data"));
  });
  document.querySelectorAll("table.matrix").forEach((table) => {
    table.closest(".scroll").after(tools("confusion", ofTable(table)));
  });
  // For tests/browser.rs: what would be saved from the first figure.
  if (location.hash.includes("selfcheck")) {
    const figure = document.querySelector("figure.plot");
    const table = figure?.querySelector("table");
    if (figure) document.documentElement.dataset.svg = toSvg(figure);
    if (table) Object.assign(document.documentElement.dataset, { csv: toCsv(table), tex: toTex(table) });
  }
})();
