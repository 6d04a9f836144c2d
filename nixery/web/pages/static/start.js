// Makes an image's name of packages, with suggestions from the package set.
const builder = document.getElementById("builder");
const packages = document.getElementById("packages");
const tag = document.getElementById("tag");
const found = document.getElementById("found");
const [pull, from] = document.querySelectorAll("#results code");
const META = builder.dataset.meta.split(" ");  // these stand for no package, and come first
let asked = 0;
let timer;

function words() {
  return packages.value.toLowerCase().split(/[\s/]+/).filter(Boolean);
}

function show() {
  const named = words();
  const wanted = (name) => named.includes(name) || document.getElementById(name)?.checked;
  const path = [...META.filter(wanted), ...named.filter((word) => !META.includes(word))].join("/");
  const image = `${builder.dataset.host}/${path || "shell"}:${tag.value.trim() || "latest"}`;
  pull.textContent = `docker pull ${image}`;
  from.textContent = `FROM ${image}`;
}

function take(name) {
  const others = packages.value.split(/[\s/]+/);
  others[others.length - 1] = name;
  packages.value = `${others.join(" ")} `;
  found.replaceChildren();
  packages.focus();
  show();
}

// Why a package of another name was found.
function reason(each, word) {
  const named = [each.name, each.attribute].some((name) => name.toLowerCase().includes(word));
  const program = [each.program, ...each.programs].find((name) => name.toLowerCase() === word);
  return program && !named ? `(it has the program ${program})` : "";
}

function suggestion(each, word) {
  const button = document.createElement("button");
  button.type = "button";
  const texts = [each.name, each.version, reason(each, word), each.description];
  button.textContent = texts.filter(Boolean).join("  ");
  button.addEventListener("click", () => take(each.name));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

async function suggest() {
  const word = packages.value.split(/[\s/]+/).pop();
  const number = ++asked;
  if (!word) {
    found.replaceChildren();
    return;
  }
  const answer = await fetch(`/packages?n=8&q=${encodeURIComponent(word)}`);
  if (number !== asked || !answer.ok) return;
  const result = await answer.json();
  if (number !== asked) return;
  const list = document.createElement("ul");
  list.append(...result.packages.filter((each) => each.name)
    .map((each) => suggestion(each, word.toLowerCase())));
  found.replaceChildren(list);
  if (!result.ready) {
    found.textContent = "The package index is being built.";
    timer = setTimeout(suggest, 2000);
  }
}

builder.addEventListener("input", (event) => {
  show();
  if (event.target !== packages) return;
  clearTimeout(timer);
  timer = setTimeout(suggest, 150);
});
builder.addEventListener("submit", (event) => event.preventDefault());
show();
