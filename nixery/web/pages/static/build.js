// Follows a build: bars, derivations and the log, as its events come.
const build = document.getElementById("build");
const log = document.getElementById("log");
const find = document.getElementById("find");
const pause = document.getElementById("pause");
const MOST = 5000; // lines that are kept on the page
const live = build.dataset.state === "running"; // else the page has all but the log
const waiting = [];
const derivations = new Map();
const count = { built: 0, planned: 0, known: 0, layers: 0 };
let drawing = false;

function bar(name, done, of, text) {
  const element = document.getElementById(name);
  element.parentElement.hidden = !of;
  element.max = Math.max(of, 1);
  element.value = Math.min(done, element.max);
  document.getElementById(`${name}-text`).textContent = text;
}

function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (number >= 999.5 && step < units.length - 1) {
    number /= 1000;
    step += 1;
  }
  return `${step ? Number(number.toPrecision(3)) : number} ${units[step]}`;
}

function row(name) {
  const body = document.querySelector("#derivations tbody");
  document.getElementById("derivations").hidden = false;
  const line = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  const code = document.createElement("code");
  code.textContent = name;
  head.append(code);
  line.append(head, ...["building", "", ""].map((text) => {
    const cell = document.createElement("td");
    cell.textContent = text;
    return cell;
  }));
  body.append(line);
  return line;
}

function progress() {
  const of = Math.max(count.planned, derivations.size);
  bar("built", count.built, of, `${count.built} of ${of}`);
  bar("layers", count.known, count.layers, `${count.known} of ${count.layers}`);
}

function matches(text) {
  return !find.value || text.toLowerCase().includes(find.value.toLowerCase());
}

function draw() {
  drawing = false;
  if (pause.checked) return;
  const follows = log.scrollTop + log.clientHeight >= log.scrollHeight - 40;
  const lines = waiting.splice(0, waiting.length).slice(-MOST).map((text) => {
    const line = document.createElement("span");
    line.textContent = `${text}\n`;
    line.classList.toggle("miss", !matches(text));
    return line;
  });
  log.append(...lines);
  while (log.childElementCount > MOST) log.firstElementChild.remove();
  if (follows) log.scrollTop = log.scrollHeight;
}

function say(text) {
  if (!log) return;
  log.hidden = document.getElementById("tools").hidden = false;
  waiting.push(text);
  if (waiting.length > 2 * MOST) waiting.splice(0, MOST);
  if (drawing || pause.checked) return;
  drawing = true;
  requestAnimationFrame(draw);
}

function state(word, words) {
  const badge = document.querySelector(".badge");
  badge.textContent = word;
  badge.className = `badge ${word}`;
  const element = document.getElementById("state");
  element.textContent = element.textContent.replace(/^[^;]*/, words);
}

const progressed = {
  "queued": () => {
    state("queued", "Waiting for its turn");
    document.querySelector("#derivations tbody").replaceChildren();
    derivations.clear();
    count.built = 0;
  },
  "resolved": () => state("running", "Running"),
  "builds-planned": (event) => { count.planned = event.derivations; },
  "build-started": (event) => {
    derivations.set(event.derivation, { line: row(event.derivation), began: event.time });
  },
  "phase-started": (event) => {
    const built = derivations.get(event.derivation);
    if (built) built.line.children[2].textContent = event.phase;
  },
  "build-stopped": (event) => {
    const built = derivations.get(event.derivation);
    if (!built) return;
    built.line.children[1].textContent = "ended";
    built.line.children[3].textContent = `${(event.time - built.began).toFixed(1)} s`;
    count.built += 1;
  },
  "fetch-progress": (event) => {
    bar("fetched", event.done, event.expected, `${bytes(event.done)} of ${bytes(event.expected)}`);
  },
  "grouped": (event) => { count.layers = event.layers; count.known = event.known; },
  "stored": () => { count.known += 1; },
  "done": () => setTimeout(() => location.reload(), 500),
  "failed": () => setTimeout(() => location.reload(), 500),
};

const said = {
  "log-line": (event) => say(`${event.derivation}> ${event.line}`),
  "planned": (event) => say(event.text),
  "said": (event) => say(event.text),
  "skipped": (event) => say(`(${event.count ?? "some"} events are lost)`),
};

function follow() {
  if (live) document.querySelector("#derivations tbody").replaceChildren();
  const source = new EventSource(`/builds/${build.dataset.id}/events`);
  source.addEventListener("message", (message) => {
    const event = JSON.parse(message.data);
    said[event.type]?.(event);
    if (event.type === "done" || event.type === "failed") source.close();
    if (!live) return;
    progressed[event.type]?.(event);
    progress();
  });
}

if (log) {
  find.addEventListener("input", () => {
    for (const line of log.children) line.classList.toggle("miss", !matches(line.textContent));
  });
  document.getElementById("wrap").addEventListener("change", (event) => {
    log.classList.toggle("wrap", event.target.checked);
  });
  pause.addEventListener("change", draw);
}
follow();
