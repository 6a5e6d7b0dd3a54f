const body = document.querySelector("tbody"), rows = [...body.rows], heads = [...document.querySelectorAll("thead th")];
const text = (row, column) => row.cells[column].textContent.trim();
heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
  const down = head.getAttribute("aria-sort") === "ascending";
  heads.forEach(other => other.setAttribute("aria-sort", other === head ? (down ? "descending" : "ascending") : "none"));
  const sorted = [...rows].sort((a, b) => text(a, column).localeCompare(text(b, column), "en", { numeric: true }));
  body.append(...(down ? sorted.reverse() : sorted));
}));
document.querySelector("#only").addEventListener("input", event => {
  const words = event.target.value.toLowerCase().split(/\s+/);
  rows.forEach(row => { row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word)); });
  document.querySelector("#shown").textContent = `${rows.filter(row => !row.hidden).length} of ${rows.length} lines`;
});
