// The page of customers, the same for both peers.
const COLUMNS = ["firstName", "lastName", "company", "customerRef", "email", "phone", "city"];
const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escape = (text) => String(text ?? "").replace(/[&<>"]/g, (sign) => ENTITIES[sign]);
const row = (cells) => `<tr>${cells.map((cell) => `<td>${escape(cell)}`).join("")}`;

export function customersPage({ "hydra:member": customers }) {
  const rows = customers.map((each) => row(COLUMNS.map((name) => each[name])));
  return `<!doctype html><title>Customers</title><table>${rows.join("")}</table>`;
}
