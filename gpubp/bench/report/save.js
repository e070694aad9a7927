"use strict";
// Saves the result that is in the page as a file; everything else works without this script.
const button = document.getElementById("save");
button.hidden = false;
button.addEventListener("click", () => {
  const text = document.getElementById("gpubp-bench").textContent;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "gpubp-bench.json";
  link.click();
  URL.revokeObjectURL(link.href);
});
