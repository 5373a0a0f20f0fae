"use strict";
const { examples, classes, columns, decisions } = JSON.parse(document.getElementById("data").textContent);
const [KEEP, RELABEL, LEAVE_OUT] = decisions;
const list = document.querySelector("ol"), said = document.querySelector("output");
const decided = new Map();
let saved = true;

function element(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

function tell() {
  said.textContent = `${decided.size} of ${examples.length} decided${saved || !decided.size ? "" : ", not saved yet"}`;
}

function decide(place, decision, label) {
  // Whoever chooses the given class keeps the label.
  if (label === String(examples[place].given)) [decision, label] = [KEEP, ""];
  decided.set(place, { decision, label });
  saved = false;
  const row = list.children[place], other = row.querySelector("select");
  row.classList.add("decided");
  const own = { [KEEP]: KEEP, [LEAVE_OUT]: LEAVE_OUT }[decision] ?? (label === String(examples[place].suggested) ? "suggestion" : "other");
  row.querySelectorAll("input").forEach((input) => { input.checked = input.value === own; });
  if (own === "other") other.value = label;
  tell();
}

function choice(place, value, text, act) {
  const input = element("input", { type: "radio", name: `decision-${place}`, value });
  input.addEventListener("change", act);
  return element("label", {}, input, ` ${text}`);
}

examples.forEach((example, place) => {
  const given = String(example.given), suggested = String(example.suggested);
  const seen = example.picture
    ? element("img", { src: example.picture, alt: `example ${example.id}` })
    : element("div", { className: "values" }, ...example.values.map(([name, text]) =>
        element("p", {}, ...(name ? [element("b", { textContent: `${name} ` })] : []), text)));
  const other = element("select", {}, ...classes.map((name) => element("option", { value: name, textContent: name })));
  other.setAttribute("aria-label", `another class of example ${example.id}`);
  other.value = suggested;
  other.addEventListener("change", () => decide(place, RELABEL, other.value));
  const choices = [
    choice(place, KEEP, `keep ${given}`, () => decide(place, KEEP, "")),
    ...(suggested === given ? [] : [choice(place, "suggestion", `${suggested} (suggested)`, () => decide(place, RELABEL, suggested))]),
    element("span", {}, choice(place, "other", "", () => decide(place, RELABEL, other.value)), other),
    choice(place, LEAVE_OUT, "leave out", () => decide(place, LEAVE_OUT, "")),
  ];
  const votes = `${Math.round(100 * example.votes)} % of its neighbours: ${suggested}`;
  const legend = element("legend", {}, element("b", { textContent: `labelled ${given}` }),
    element("br"), element("small", { textContent: `${votes}; score ${Number(example.score).toPrecision(3)}; id ${example.id}` }));
  list.append(element("li", { tabIndex: 0 }, seen, element("fieldset", {}, legend, ...choices)));
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  const place = [...list.children].indexOf(event.target.closest?.("li") ?? null);
  const go = (to) => { list.children[to]?.focus(); event.preventDefault(); };
  if (event.key === "ArrowDown" && event.target.type !== "radio") return go(place + 1);
  if (event.key === "ArrowUp" && event.target.type !== "radio") return go(Math.max(0, place - 1));
  if (place < 0) return;
  if (event.key === "k") decide(place, KEEP, "");
  else if (event.key === "s") decide(place, RELABEL, String(examples[place].suggested));
  else if (event.key === "x") decide(place, LEAVE_OUT, "");
  else return;
  go(place + 1);
});

function quoted(value) {
  const text = String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

document.querySelector(".save").addEventListener("click", () => {
  const rows = [...decided].sort(([a], [b]) => a - b)
    .map(([place, { decision, label }]) => [examples[place].id, decision, label]);
  const text = [columns, ...rows].map((row) => row.map(quoted).join(",")).join("\n") + "\n";
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: "decisions.csv" });
  link.click();
  URL.revokeObjectURL(link.href);
  saved = true;
  tell();
});

window.addEventListener("beforeunload", (event) => { if (!saved) event.preventDefault(); });
tell();
