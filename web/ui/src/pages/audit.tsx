// The audit trail of the org: its events, what they were over time, whether the
// chain is whole, and an export of it.

import { useEffect, useState } from "preact/hooks";
import { Head } from "../ui/parts.js";
import { Events } from "./audit/events.js";
import { ExportTrail } from "./audit/export.js";
import { useNames } from "./audit/names.js";
import { FilterForm, noFilter, type Filter } from "./audit/filter.js";
import { OverTime } from "./audit/overtime.js";
import { Verdict } from "./audit/verify.js";

export default function Audit() {
  useEffect(() => void (document.title = "Audit · Keyfold"), []);
  const names = useNames();
  const [filter, setFilter] = useState<Filter>(noFilter);
  return (
    <>
      <Head title="Audit" />
      <div class="grid">
        <Verdict />
        <ExportTrail filter={filter} />
      </div>
      <FilterForm filter={filter} names={names} apply={setFilter} />
      <OverTime filter={filter} />
      <Events filter={filter} names={names.of} />
    </>
  );
}
