// Draws the figures of a page. Each `.mechmem-plot` holds its figure as JSON.
addEventListener("DOMContentLoaded", () => {
  for (const place of document.querySelectorAll(".mechmem-plot")) {
    const figure = JSON.parse(place.querySelector("script").textContent);
    place.replaceChildren();
    // Only now is it as high as its figure: where there is no JavaScript, there is no gap.
    place.style.height = `${place.dataset.height}px`;
    place.style.minWidth = `${place.dataset.narrowest}px`;
    Plotly.newPlot(place, figure.data, figure.layout, {responsive: true, displaylogo: false, displayModeBar: false});
    place.closest(".mechmem-scroll").after(saving(place));
  }
});

// Buttons that save a figure as it is drawn: as wide, and from the same zoom. Nothing is sent anywhere.
function saving(place) {
  const row = document.createElement("p");
  row.className = "mechmem-save";
  for (const format of ["png", "svg"]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `Save ${format.toUpperCase()}`;
    button.setAttribute("aria-label", `Save as ${format.toUpperCase()}: ${place.getAttribute("aria-label")}`);
    button.onclick = () => Plotly.downloadImage(place, {
      format,
      filename: place.dataset.name,
      width: place.clientWidth,
      height: place.clientHeight,
      scale: format === "png" ? 2 : 1,
    });
    row.append(button);
  }
  return row;
}
