// Parts of the dashboard whose script is loaded when they are first shown. When the
// server is away by then, that is said, and they come when it is back.

import { KeyfoldError, type Result } from "@keyfold/sdk";
import type { ComponentType, VNode } from "preact";
import { useState } from "preact/hooks";
import { useLoad } from "../load.js";
import { client } from "../session.js";
import { Show } from "./state.js";

interface Loads<P> {
  Part: ComponentType<P>;
}

/** A component whose script load brings. */
export function lazily<P extends object>(load: () => Promise<{ default: ComponentType<P> }>): (props: P) => VNode {
  let known: ComponentType<P> | undefined;
  const read = async (): Promise<Result<Loads<P>>> => {
    try {
      known = (await load()).default;
    } catch {
      await client.health(); // which throws when the server is away, and what that throws is told and tried again
      throw new KeyfoldError("The server no longer has this part of the page: it may be of another version by now. Load the page again");
    }
    return { data: { Part: known }, error: null, meta: { status: 200 } };
  };
  const Loader = (props: P) => {
    const loaded = useLoad(read, []);
    return (
      <Show of={loaded} what="the page">
        {({ Part }) => <Part {...props} />}
      </Show>
    );
  };
  return (props) => {
    const [Known] = useState(() => known);
    return Known ? <Known {...props} /> : <Loader {...props} />;
  };
}
