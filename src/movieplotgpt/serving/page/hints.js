/** What a model can be asked for besides a title: a field for each of its hints. */

import { make } from "./dom.js";

export const HINT = "hint."; // before the name of a hint, as the name of its fields, and in links

/** A field for each hint: its usual values to choose from and a text field for others, or the text field alone. */
export function hintFields(usual) {
  return Object.entries(usual).map(([hint, values]) => {
    const name = HINT + hint, chips = values.length ? ["", ...values].map((value) =>
      make("label", {}, make("input", { type: "radio", name, value, checked: !value }), value || "any")) : [];
    const own = make("input", {
      name: values.length ? `own-${name}` : name, maxlength: 200, placeholder: values.length ? "or another" : "any", "aria-label": `${hint}, in your words`,
    });
    return make("fieldset", { class: "chips" }, make("legend", {}, hint), ...chips, own);
  });
}

/** The value that is chosen or typed for a hint. */
export function hintValue(form, name) {
  return form.elements.namedItem(`own-${name}`)?.value.trim() || form.elements.namedItem(name).value.trim();
}

/** Choose a usual value, or type another one. */
export function setHint(form, name, value) {
  const chips = form.elements.namedItem(name), own = form.elements.namedItem(`own-${name}`);
  chips.value = value;
  if (chips.value === value || !own) return;
  for (const chip of chips) chip.checked = false;
  own.value = value;
}

/** Leave either the usual value or the typed one, whichever was changed last. */
export function agree(form, { name, value }) {
  const own = form.elements.namedItem(`own-${name}`);
  if (own) own.value = "";
  else if (name.startsWith("own-") && value) for (const chip of form.elements.namedItem(name.slice("own-".length))) chip.checked = false;
}
