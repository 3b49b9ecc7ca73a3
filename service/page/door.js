// The form that asks for a key, where the service has keys.

import { $ } from "./dom.js";
import { asksForKey, catalog, keeper, loadCatalog } from "./service.js";

export const isClosed = () => !$("door-form").hidden && !$("door-open").hidden;

export function showDoor(isOpen, reason = "") {
  $("door-form").hidden = false;
  $("door-open").hidden = $("door-head").hidden = !isOpen;
  $("door-form").classList.toggle("slim", !isOpen);
  $("door-closed").hidden = isOpen;
  $("key").disabled = $("enter").disabled = !isOpen;
  $("run").disabled = isOpen;
  $("door-failure").textContent = reason;
  $("door-failure").hidden = !reason;
}

/** Set up the form; `opened` is called when a key is taken, `closed` when it is forgotten. */
export function watchDoor(opened, closed) {
  $("door-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const key = $("key").value.trim();
    if (!key) return;
    keeper.set(key);
    catalog.isLoaded = false;
    $("enter").disabled = true;
    try {
      await loadCatalog();
      $("key").value = "";
      showDoor(false);
      opened();
    } catch (error) {
      if (error.isOfKey) keeper.forget();
      showDoor(true, error.isOfKey ? "That is not a key of this service." : error.message);
      $("key").focus();
    }
  });
  $("leave").addEventListener("click", () => {
    keeper.forget();
    closed();
    showDoor(true);
    $("key").focus();
  });
  if (asksForKey) showDoor(!keeper.get());
}
