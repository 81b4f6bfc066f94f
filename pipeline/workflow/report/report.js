// The slider over the snapshots, and the highlighted class. Without scripts the page shows the finished images.
(() => {
  const gallery = document.querySelector("[data-gallery]");
  const controls = gallery && gallery.querySelector(".controls");
  if (controls) {
    const slider = controls.querySelector("input"), output = controls.querySelector("output");
    const play = controls.querySelector("[data-play]");
    const iterations = gallery.dataset.iterations.split(","), last = gallery.dataset.last;
    let timer = 0;
    const show = () => {
      const frame = Number(slider.value), finished = frame >= iterations.length;
      gallery.classList.toggle("moving", !finished);
      gallery.style.setProperty("--frame", frame);
      output.textContent = `${finished ? last : iterations[frame]} of ${last}`;
      slider.setAttribute("aria-valuetext", `iteration ${output.textContent}`);
    };
    const stop = () => { clearInterval(timer); timer = 0; play.textContent = "Play"; };
    slider.addEventListener("input", () => { stop(); show(); });
    play.addEventListener("click", () => {
      if (timer) { stop(); return; }
      play.textContent = "Stop";
      slider.value = 0; show();
      timer = setInterval(() => {
        slider.value = Number(slider.value) + 1; show();
        if (slider.value === slider.max) stop();
      }, 600);
    });
    controls.hidden = false;
    show();
  }
  const select = document.querySelector("[data-cloud]");
  if (select) select.addEventListener("change", () => {
    for (const cloud of document.querySelectorAll(".cloud [data-class]")) {
      const chosen = cloud.dataset.class === select.value;
      cloud.classList.toggle("chosen", chosen);
      if (chosen) cloud.parentNode.append(cloud);
    }
  });
})();
