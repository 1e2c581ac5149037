// How html-validate reads the pages: as it recommends, but for this.
export default {
  root: true,
  extends: ["html-validate:recommended"],
  rules: {
    // HTML has no preference, and this is how it is usually written.
    "doctype-style": ["error", { style: "lowercase" }],
    // Type is left out where it would say what HTML takes anyhow: a form's button submits it, an input holds text.
    "no-implicit-button-type": "off",
    "no-implicit-input-type": "off",
    // Only without scripts, only while an answer grows, and with a link that does the same at once.
    "meta-refresh": "off",
    // A suggestion is a button that sends its text under the name of the composer's field.
    "form-dup-name": "off",
    // The palette is a combobox with its options, as ARIA's own pattern has it; a <select> cannot be one.
    "prefer-native-element": ["error", { exclude: ["listbox"] }],
  },
};
