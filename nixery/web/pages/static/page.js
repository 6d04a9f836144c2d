// What every page can do: copy its commands, and open the tab that was chosen last.
const KEPT = "tab";

function select(text) {  // over plain HTTP, browsers have no other clipboard
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "unseen";
  area.readOnly = true;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

async function copy(button) {
  const text = button.closest(".command").querySelector("code").textContent;
  const done = await (navigator.clipboard?.writeText(text).then(() => true, () => select(text))
    ?? select(text));
  button.focus();
  button.textContent = done ? "Copied" : "Not copied";
  document.getElementById("said").textContent = button.textContent;
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

function open(tabs) {
  const kept = localStorage.getItem(KEPT);
  for (const tab of tabs.querySelectorAll(".tabs > input")) {
    if (tab.value === kept) tab.checked = true;
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest(".copy");
  if (button) copy(button);
});
document.addEventListener("change", (event) => {
  if (event.target.matches(".tabs > input")) localStorage.setItem(KEPT, event.target.value);
});
document.addEventListener("drawn", (event) => open(event.target));  // parts that scripts replace
open(document);
