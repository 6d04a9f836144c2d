// The field that makes a name as one types, and what happens meanwhile. The server understands what
// is typed: it sends suggestions, faults and commands as they are shown without scripts.
const WAIT = 120, ASK_AGAIN = 2000, LOOK_AGAIN = 5000;  // ms
const field = document.getElementById("typed");
let asked = 0, timer, chosen = -1, dismissed = false;

async function parts(address) {
  const answer = await fetch(address);
  const text = answer.ok ? await answer.text() : "";
  return new DOMParser().parseFromString(text, "text/html").body.children;
}

function put(made) {
  for (const part of [...made]) {
    document.getElementById(part.id).replaceWith(part);
    part.dispatchEvent(new CustomEvent("drawn", { bubbles: true }));
  }
}

const list = () => document.getElementById("suggestions");

function choose(number) {
  const options = list().children;
  chosen = options.length ? (number + options.length) % options.length : -1;
  for (const [at, option] of [...options].entries()) {
    option.setAttribute("aria-selected", String(at === chosen));
  }
  if (chosen < 0) return field.removeAttribute("aria-activedescendant");
  options[chosen].scrollIntoView({ block: "nearest" });
  field.setAttribute("aria-activedescendant", options[chosen].id);
}

function show(open) {
  list().hidden = !open || !list().children.length;
  field.setAttribute("aria-expanded", String(!list().hidden));
  chosen = -1;
  field.removeAttribute("aria-activedescendant");
}

function dismiss() {
  dismissed = true;
  show(false);
}

function askNow() {
  dismissed = false;
  return ask();
}

async function ask() {
  const number = ++asked;
  const made = await parts(`/name?q=${encodeURIComponent(field.value)}`);
  if (number !== asked || !made.length) return;
  put(made);
  show(document.activeElement === field && !dismissed);
  const wrong = document.querySelector("#made .fault, #made .hint");
  const count = list().children.length;
  document.getElementById("said").textContent = wrong?.textContent ?? `${count} suggestions`;
  if ("again" in list().dataset) timer = setTimeout(ask, ASK_AGAIN);
}

function take(option) {
  field.value = option.dataset.typed;
  field.focus();
  askNow();
}

const keys = {
  ArrowDown: () => (list().hidden ? askNow() : choose(chosen + 1)),
  ArrowUp: () => (list().hidden ? askNow() : choose(chosen < 0 ? -1 : chosen - 1)),
  Enter: () => {
    if (!list().hidden && chosen >= 0) take(list().children[chosen]);
    else dismiss();
  },
  Escape: () => {
    if (list().hidden) {
      field.value = "";
      askNow();
    } else dismiss();
  },
};

field.addEventListener("keydown", (event) => {
  if (!keys[event.key] || event.isComposing) return;
  event.preventDefault();
  keys[event.key]();
});
field.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(askNow, WAIT);
});
field.addEventListener("focus", () => show(true));
field.addEventListener("blur", () => show(false));
document.addEventListener("mousedown", (event) => {
  const option = event.target.closest("#suggestions li");
  if (!option) return;
  event.preventDefault();  // the field keeps the focus
  take(option);
});
document.getElementById("naming").addEventListener("submit", (event) => event.preventDefault());

setInterval(async () => {
  if (document.hidden || document.getElementById("activity").matches(":focus-within, :hover")) return;
  put(await parts("/activity"));
}, LOOK_AGAIN);
