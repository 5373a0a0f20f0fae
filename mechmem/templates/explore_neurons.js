// The figures of neurons on the page to explore: waves, spectra and the map of frequencies.
"use strict";

function drawWaves(state) {
  const {waves} = seen;
  const there = waves !== null && state.neuron >= 0;
  for (const [place, id] of ["wave-0", "wave-1", "wave-2"].entries()) {
    if (!shown(id, there && place < waves.names.length)) {
      continue;
    }
    const name = waves.names[place], length = waves.symbols.values.length;
    const start = (state.neuron * waves.names.length + place) * length;
    const vector = (array) => Array.from(array.values.subarray(start, start + length));
    const x = Array.from({length}, (_, position) => position);
    const ordered = waves.symbols.values.every((symbol, position) => symbol === position);
    draw(id, [
      {x, y: vector(waves.fitted), mode: "lines", line: {color: ORANGE, width: 2}, hoverinfo: "skip"},
      {
        x,
        y: vector(waves.values),
        customdata: Array.from(waves.symbols.values),
        mode: "markers",
        marker: {size: 4, color: BLUE},
        hovertemplate: "symbol %{customdata}: %{y:.3g}<extra></extra>",
      },
    ], {
      height: 210,
      margin: {l: 52, r: 8, t: 30, b: 44},
      title: {text: VECTOR_NAMES[name], font: {size: 13}, x: 0.5, y: 0.97, yanchor: "top"},
      xaxis: {title: {text: ordered ? "symbol" : "logarithm of the symbol"}},
      yaxis: {title: {text: place === 0 ? "weight" : ""}},
    });
  }
}

// The spectra of a neuron's vectors, or of its activation where it has no vectors.
function spectraOf(neuron) {
  if (seen.waves !== null) {
    const {names, spectrum} = seen.waves, [, , length] = spectrum.shape;
    const row = spectrum.row(neuron);
    return names.map((name, place) => (
      {name: VECTOR_NAMES[name], color: VECTOR_COLORS[name], values: row.slice(place * length, (place + 1) * length)}
    ));
  }
  if (seen.map === null) {
    return [];
  }
  const values = seen.map.labels.map((_, frequency) => seen.map.share.row(frequency)[neuron]);
  return [{name: `share of the ${seen.map.what}`, color: BLUE, values}];
}

function drawSpectrum(state) {
  const spectra = state.neuron < 0 ? [] : spectraOf(state.neuron);
  if (!shown("spectrum", spectra.length > 0)) {
    return;
  }
  const labels = seen.map === null ? Array.from(spectra[0].values, (_, place) => place + 1) : seen.map.labels;
  const traces = spectra.map(({name, color, values}) => ({
    type: "bar", x: labels, y: Array.from(values), name, marker: {color},
    hovertemplate: `frequency %{x}: %{y:.1%}<extra>${name}</extra>`,
  }));
  draw("spectrum", traces, {
    height: 240,
    showlegend: true,
    margin: {l: 52, r: 12, t: 36, b: 44},
    xaxis: {title: {text: "frequency"}, showgrid: false, ...wholeAxis(labels.length)},
    yaxis: {title: {text: "share"}, range: [0, 1.02], tickformat: ".0%"},
  });
}

function drawMap(state) {
  if (!shown("map", seen.map !== null)) {
    return;
  }
  const {share, labels, order, what} = seen.map, neurons = Array.from(order.values);
  const place = neurons.indexOf(state.neuron);
  const z = labels.map((_, frequency) => neurons.map((neuron) => share.row(frequency)[neuron]));
  const trace = {
    type: "heatmap",
    z,
    y: labels,
    customdata: labels.map(() => neurons),
    colorscale: "Viridis",
    zmin: 0,
    colorbar: {title: {text: `share of the ${what}`, side: "right"}, thickness: 12, outlinewidth: 0, tickformat: ".0%"},
    hovertemplate: "neuron %{customdata}<br>frequency %{y}: %{z:.1%}<extra></extra>",
  };
  draw("map", [trace], {
    height: 380,
    xaxis: {title: {text: "neuron, sorted by key frequency"}, showgrid: false},
    yaxis: {title: {text: "frequency"}, showgrid: false, ...wholeAxis(labels.length)},
    shapes: place < 0 ? [] : [{...upright(place, VERMILION), line: {color: VERMILION, width: 2}}],
  });
}
