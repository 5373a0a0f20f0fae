// The figures of cells on the page to explore, and what all figures share. Each function draws one from what is
// selected; none changes what is selected.
"use strict";

const INK = "#222222", FAINT = "#6b6b6b", LINE = "#e3e3e3";
const BLUE = "#0072B2", VERMILION = "#D55E00", GREEN = "#009E73", PURPLE = "#CC79A7";
const ORANGE = "#E69F00", SKY = "#56B4E9", YELLOW = "#F0E442";
const OUTCOME_COLORS = ["#9ec9e2", VERMILION, "#3b3b3b", "#d9d9d9"];
const PART_COLORS = [SKY, BLUE, GREEN, ORANGE];
const VECTOR_COLORS = {u: BLUE, v: SKY, w: ORANGE};
const VECTOR_NAMES = {u: "u (input a)", v: "v (input b)", w: "w (output)"};
// What the symbols of curves look like in text.
const SIGNS = {square: "■", diamond: "◆", "triangle-up": "▲", circle: "●", cross: "✚"};
const LEFT_OF_ONE = 0.5; // place of step 0 on a log axis

// Draw or redraw a figure. Nothing zooms, so that a finger scrolls the page and a click always selects.
function draw(id, traces, layout) {
  const place = document.getElementById(id);
  const axis = {gridcolor: LINE, zeroline: false, ticks: "outside", automargin: true, fixedrange: true};
  const own = {...layout, xaxis: {...axis, ...layout.xaxis}, yaxis: {...axis, ...layout.yaxis}};
  const style = getComputedStyle(document.body);
  const first = place.querySelector(".main-svg") === null;
  Plotly.react(place, traces, {
    font: {family: style.fontFamily, size: 13, color: INK},
    margin: {l: 52, r: 12, t: 10, b: 44},
    paper_bgcolor: "white",
    plot_bgcolor: "white",
    dragmode: false,
    showlegend: false,
    hoverlabel: {font: {size: 13}},
    legend: {orientation: "h", x: 0, y: 1, yanchor: "bottom", itemclick: false, itemdoubleclick: false},
    ...own,
  }, {responsive: true, displaylogo: false, displayModeBar: false});
  if (first) {
    place.after(saving(place));
    if (id in CLICKS) {
      place.on("plotly_click", (event) => CLICKS[id](event.points[0]));
    }
  }
}

// Show the figure of a view, or hide it and its table where there is nothing to draw.
function shown(id, there) {
  document.getElementById(id).closest(".figure").hidden = !there;
  return there;
}

// Where a state stands on an axis of steps; the network as given, if no state is it, stands behind the last.
function stepPlaces() {
  const last = Math.max(1, ...seen.steps.filter((step) => step !== null));
  return seen.steps.map((step) => (step === null ? 1.5 * last : Math.max(step, LEFT_OF_ONE)));
}

// An axis of whole numbers: where they are few, each has a tick, and none lies between two.
const wholeAxis = (count) => (count <= 12 ? {dtick: 1} : {});

function stepAxis() {
  const last = Math.max(1, ...seen.steps.filter((step) => step !== null));
  const powers = [];
  for (let power = 1; power <= last; power *= 10) {
    powers.push(power);
  }
  return {
    type: "log",
    title: {text: "training step (log scale)"},
    tickvals: [LEFT_OF_ONE, ...powers],
    ticktext: ["0", ...powers.map((power) => power.toLocaleString("en"))],
  };
}

const upright = (x, color = INK) => ({
  type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: {color, width: 2, dash: "dot"},
});

function drawAccuracy(state) {
  if (!shown("accuracy", seen.steps.length > 1)) {
    return;
  }
  const x = stepPlaces();
  const traces = seen.accuracy.map((split) => ({
    x,
    y: Array.from(split.values.values),
    name: split.title,
    mode: "lines+markers",
    line: {color: split.color, dash: split.dash, width: 2},
    marker: {color: split.color, symbol: split.symbol, size: 6},
    hovertemplate: `%{y:.1%}<extra>${split.title}</extra>`,
  }));
  draw("accuracy", traces, {
    height: 190,
    hovermode: "x",
    hoverdistance: -1, // a click anywhere takes the nearest state
    xaxis: stepAxis(),
    yaxis: {title: {text: "accuracy"}, range: [-0.03, 1.05], tickformat: ".0%"},
    shapes: [upright(x[state.step])],
  });
}

// One trace of marks on the grid of cells; a is downwards and b across.
function marks(cells, marker) {
  const at = cells.map(operandsOf);
  return {x: at.map(([, b]) => b), y: at.map(([a]) => a), mode: "markers", marker, hoverinfo: "skip"};
}

// One value per place of the grid, from the cell there or none.
function onGrid(value) {
  const places = Array.from({length: seen.symbols}, (_, place) => place);
  return places.map((a) => places.map((b) => value(cellAt(a, b))));
}

function drawGrid(state) {
  const place = document.getElementById("grid"), n = seen.symbols;
  // Beside the other views it stays in sight while they scroll, so it has to fit into the window.
  const beside = matchMedia("(min-width: 1000px)").matches ? Math.max(320, innerHeight - 470) : 620;
  const side = Math.min(place.clientWidth, beside), pixels = (side - 56) / n;
  const size = Math.max(8, Math.min(14, 1.4 * pixels));
  const influential = state.marks.influences ? influencesOf(state.cell) : [];
  const all = Array.from({length: cellCount}, (_, cell) => cell);
  const heldOut = state.marks.heldOut ? all.filter((cell) => splitOf(cell) === "held out") : [];
  const held = state.marks.held ? heldBy(state.neuron).map((pair) => pair.number) : [];
  const signed = (sign) => influential.filter((pair) => sign * pair.value > 0).map((pair) => pair.number);
  const dot = Math.max(2, Math.min(6, 0.3 * pixels));
  // A dark line on a white one is seen on every colour.
  const line = (symbol, color, width) => ({symbol: `${symbol}-open`, size, color, line: {color, width}});
  const inked = {width: 1, color: INK};
  const square = {constrain: "domain", showgrid: false};
  const selected = state.cell < 0 ? [] : [state.cell];
  const traces = [
    {
      type: "heatmap",
      z: onGrid((cell) => (cell < 0 ? null : outcomeOf(cell, state.step))),
      customdata: onGrid((cell) => (cell < 0 ? "" : plain(answerName(answerOf(cell, state.step))))),
      colorscale: OUTCOME_COLORS.flatMap((color, place) => [[place / 4, color], [(place + 1) / 4, color]]),
      zmin: -0.5,
      zmax: 3.5,
      showscale: false,
      xgap: pixels > 6 ? 1 : 0,
      ygap: pixels > 6 ? 1 : 0,
      hovertemplate: "a = %{y}, b = %{x}<br>answer %{customdata}<extra></extra>",
    },
    marks(heldOut, {size: dot, color: "white", line: {color: INK, width: 0.8}}),
    marks(held, line("circle", "white", 4)),
    marks(held, line("circle", INK, 1.8)),
    marks(signed(1), {symbol: "triangle-up", size, color: YELLOW, line: inked}),
    marks(signed(-1), {symbol: "triangle-down", size, color: PURPLE, line: inked}),
    marks(selected, line("square", "white", 6)),
    marks(selected, line("square", INK, 3)),
  ];
  draw("grid", traces, {
    height: side,
    margin: {l: 46, r: 8, t: 6, b: 44},
    plot_bgcolor: "#f4f4f4",
    xaxis: {title: {text: "b"}, range: [-0.5, n - 0.5], ...square, ...wholeAxis(n)},
    yaxis: {title: {text: "a"}, range: [n - 0.5, -0.5], scaleanchor: "x", ...square, ...wholeAxis(n)},
  });
}

function drawCourse(state) {
  const x = stepPlaces(), cell = state.cell;
  if (!shown("course", cell >= 0 && seen.steps.length > 1)) {
    return;
  }
  const y = seen.steps.map((_, step) => answerOf(cell, step));
  const lines = [
    ["training label", seen.given.values[cell], VERMILION, "dashdot"],
    ["true label", seen.true.values[cell], GREEN, "solid"],
  ].filter(([, label]) => label >= 0);
  const colors = seen.steps.map((_, step) => OUTCOME_COLORS[outcomeOf(cell, step)]);
  const traces = lines.map(([name, label, color, dash]) => (
    {x: [x[0], x.at(-1)], y: [label, label], name, mode: "lines", line: {color, dash, width: 2}, hoverinfo: "skip"}
  ));
  traces.push({
    x,
    y,
    name: "answer",
    customdata: y.map((answer, step) => [plain(answerName(answer)), stepName(step)]),
    mode: "lines+markers",
    line: {color: FAINT, width: 1, shape: "hv"},
    marker: {size: 7, color: colors, line: {color: INK, width: 1}},
    hovertemplate: "%{customdata[1]}: answer %{customdata[0]}<extra></extra>",
  });
  draw("course", traces, {
    height: 240,
    showlegend: true,
    margin: {l: 52, r: 12, t: 36, b: 44},
    xaxis: stepAxis(),
    yaxis: {
      title: {text: "answer"}, range: [-0.04 * seen.classes - 1, 1.04 * seen.classes], ...wholeAxis(seen.classes),
    },
    shapes: [upright(x[state.step])],
  });
}

// Horizontal bars of named values, the first on top; a click on one with a number selects it.
function bars(id, items, title, hover) {
  const trace = {
    type: "bar",
    orientation: "h",
    x: items.map((item) => item.value),
    y: items.map((_, place) => place),
    customdata: items.map((item) => item.number),
    text: items.map((item) => hover(item)),
    textposition: "none",
    hovertemplate: "%{text}<extra></extra>",
    marker: {color: items.map((item) => (item.number < 0 ? "#b8b8b8" : item.value < 0 ? VERMILION : BLUE))},
  };
  draw(id, [trace], {
    height: 70 + 19 * items.length,
    bargap: 0.25,
    xaxis: {title: {text: title}, zeroline: true, zerolinecolor: INK},
    yaxis: {
      tickvals: items.map((_, place) => place),
      ticktext: items.map((item) => item.name),
      range: [items.length - 0.4, -0.6],
      showgrid: false,
      ticks: "",
      tickfont: {size: 12},
    },
  });
}

function drawContributors(state) {
  if (shown("contributors", contributed !== null && state.cell >= 0)) {
    const words = (item) => `${item.name}: ${number(item.value)} logits`;
    bars("contributors", contributionsTo(state.cell), "contribution to the answer's logit", words);
  }
}

function drawInfluences(state) {
  const found = influencesOf(state.cell);
  if (shown("influences", found.length > 0)) {
    const named = found.map((pair) => ({...pair, name: cellName(pair.number)}));
    bars("influences", named, "share of all influence", (item) => `${item.name}: ${percent(item.value)}`);
  }
}

function drawParts(state) {
  if (!shown("parts", seen.logits !== null && state.cell >= 0)) {
    return;
  }
  const {total, parts} = logitsOf(state.cell), label = Array.from(total, (_, place) => place);
  const answer = answerOf(state.cell, seen.own);
  const traces = parts.map((part, place) => (
    {type: "bar", x: label, y: Array.from(part.values), name: part.name, marker: {color: PART_COLORS[place]}}
  ));
  const marker = {color: INK, symbol: "diamond", size: 6};
  traces.push({x: label, y: Array.from(total), name: "logit", mode: "markers", marker});
  for (const trace of traces) {
    trace.customdata = label.map((each) => plain(className(each)));
    trace.hovertemplate = `class %{customdata}: %{y:.3g} logits<extra>${trace.name}</extra>`;
  }
  draw("parts", traces, {
    height: 300,
    barmode: "relative",
    bargap: 0.1,
    showlegend: true,
    margin: {l: 52, r: 12, t: 36, b: 44},
    xaxis: {
      title: {text: `class (dotted: the answer, ${plain(answerName(answer))})`},
      showgrid: false,
      ...wholeAxis(seen.classes),
    },
    yaxis: {title: {text: "logits over the mean class"}, zeroline: true, zerolinecolor: INK},
    shapes: [upright(answer)],
  });
}
