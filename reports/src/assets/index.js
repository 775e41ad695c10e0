
// Filters the list of runs; the state stands in the address.
(() => {
  const form = document.getElementById("runs-filter");
  const rows = [...document.querySelectorAll("#runs tbody tr[data-kind]")];
  if (!form) return;
  const fields = ["filter", "kind", "verdict"];
  const show = () => {
    const { filter, kind, verdict } = Object.fromEntries(new FormData(form));
    const words = filter.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = words.every((word) => text.includes(word));
      row.hidden = !(fits && (!kind || row.dataset.kind === kind) && (!verdict || row.dataset.word === verdict));
      shown += !row.hidden;
    }
    form.querySelector("[data-shown]").textContent = `${shown} of ${rows.length} shown`;
  };
  const address = new URLSearchParams(location.hash.slice(1));
  for (const name of fields) if (address.has(name)) form.elements[name].value = address.get(name);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    show();
    const set = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    history.replaceState(null, "", "#" + set);
  });
  show();
})();
