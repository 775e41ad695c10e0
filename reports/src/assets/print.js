// Opens what is folded while the page is printed, except for tables that would take pages of their own.
(() => {
  const MOST_ROWS = 60;
  let opened = [];
  addEventListener("beforeprint", () => {
    const folded = [...document.querySelectorAll("details:not([open])")];
    opened = folded.filter((block) => block.querySelectorAll("tbody tr").length <= MOST_ROWS);
    for (const block of opened) block.open = true;
  });
  addEventListener("afterprint", () => {
    for (const block of opened) block.open = false;
    opened = [];
  });
})();
