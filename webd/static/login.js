/** The page `/login`: takes the code from the address, hands it in once, and goes to the hive. */

/** @param {string} id */
const part = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** @param {"ask" | "trying" | "refused" | "away"} which @param {string} [why] */
function show(which, why = "") {
  for (const id of ["ask", "trying", "refused", "away"]) part(id).hidden = id !== which;
  if (why) part("why").textContent = why;
}

/** @param {string} code */
async function handIn(code) {
  show("trying");
  /** @type {Response} */
  let response;
  try {
    response = await fetch("/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ code }),
      credentials: "same-origin",
    });
  } catch {
    show("away");
    part("again").onclick = () => void handIn(code);
    return;
  }
  const answer = await response.json().catch(() => null);
  if (response.ok) {
    location.replace("/");
    return;
  }
  show("refused", answer?.detail ?? `webd answered ${response.status}`);
}

const code = new URLSearchParams(location.hash.slice(1)).get("code");
if (code) {
  history.replaceState(null, "", location.pathname); // a used code has no place in the address or the history
  void handIn(code);
} else if (document.body.dataset.signedIn === "yes") {
  location.replace("/");
} else {
  show("ask");
}
