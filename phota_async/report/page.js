"use strict";
// Without this script every photo, state and reason is on the page; with it the photos lie under sliders and a filter.
document.documentElement.classList.add("js");

document.addEventListener("input", ({ target }) => {
  if (!target.matches(".slider")) return;
  const before = Math.round(target.value);
  target.parentElement.style.setProperty("--cut", `${target.value}%`);
  target.setAttribute("aria-valuetext", `${before}% before, ${100 - before}% after`);
});

document.addEventListener("click", ({ target }) => {
  const button = target.closest(".versions button");
  if (!button) return;
  const buttons = [...button.parentElement.children];
  const images = button.closest(".card").querySelectorAll(".after");
  buttons.forEach((one, index) => {
    one.setAttribute("aria-pressed", String(one === button));
    images[index].classList.toggle("on", one === button);
  });
});

document.addEventListener("DOMContentLoaded", () => {
  const attention = document.querySelector(".attention");
  // On a phone it would push the photos out of sight.
  if (attention && matchMedia("(max-width: 36rem)").matches) attention.open = false;

  const form = document.querySelector(".filter");
  const search = form.querySelector("[type=search]");
  const choices = [...form.querySelectorAll("[name=state]")];
  const told = form.querySelector("output");
  const everything = told.textContent;
  const all = form.querySelector("[type=reset]");
  const none = document.querySelector(".none");
  const cards = Array.from(document.querySelectorAll(".card"), (card) => ({ card, state: card.dataset.state }));

  const folded = (text) => text.normalize("NFC").toLowerCase().replace(/\s+/g, " ").trim();
  const words = (one) =>
    (one.words ??= Array.from(one.card.querySelectorAll(".name, .reason, .id code"), (part) =>
      folded(part.textContent),
    ).join("\n"));

  const apply = () => {
    const states = new Set(choices.filter((one) => one.checked).map((one) => one.value));
    const wanted = folded(search.value);
    let shown = 0;
    for (const one of cards) {
      const fits = (!states.size || states.has(one.state)) && (!wanted || words(one).includes(wanted));
      if (one.card.hidden === fits) one.card.hidden = !fits;
      shown += fits;
    }
    const narrowed = states.size > 0 || wanted !== "";
    told.textContent = narrowed ? `${shown.toLocaleString("en")} of ${everything}` : everything;
    all.hidden = !narrowed;
    none.hidden = shown > 0;
  };

  let pause;
  form.addEventListener("input", ({ target }) => {
    clearTimeout(pause);
    pause = setTimeout(apply, target === search ? 120 : 0);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => {
    setTimeout(apply);
    search.focus();
  });
  document.querySelectorAll(".why").forEach((button) =>
    button.addEventListener("click", () => {
      choices.forEach((one) => (one.checked = one.value === button.dataset.state));
      search.value = button.textContent;
      apply();
      form.scrollIntoView();
      search.focus({ preventScroll: true });
    }),
  );
});
