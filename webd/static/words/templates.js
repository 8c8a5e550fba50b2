/** The hive's own role templates, as privd/templates/roles has them; the manager's is not offered. */
export const TEMPLATES = ["plain", "backend", "frontend", "infra", "reviewer", "triage"];
