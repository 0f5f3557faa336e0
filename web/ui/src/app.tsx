// The frame of all pages: who is signed in, where to go, and what is shown there.

import { LocationProvider, Router, Route, useLocation } from "preact-iso";
import { useEffect, useRef } from "preact/hooks";
import { lock, unlocked } from "./keys.js";
import { resume, signOut, unasked, user } from "./session.js";
import { SignIn } from "./pages/signin.js";
import { Head } from "./ui/parts.js";
import { lazily } from "./ui/lazily.js";
import { Empty, Loading, Problem } from "./ui/state.js";
import { Toasts } from "./ui/toast.js";

const Overview = lazily(() => import("./pages/overview.js"));
const Vaults = lazily(() => import("./pages/vaults.js"));
const Vault = lazily(() => import("./pages/vault.js"));
const Agents = lazily(() => import("./pages/agents.js"));
const Threads = lazily(() => import("./pages/threads.js"));
const Thread = lazily(() => import("./pages/thread.js"));
const Audit = lazily(() => import("./pages/audit.js"));
const Keys = lazily(() => import("./pages/keys.js"));
const Jobs = lazily(() => import("./pages/jobs.js"));
const Account = lazily(() => import("./pages/account.js"));

const places = [
  ["/ui/", "Overview"],
  ["/ui/vaults", "Vaults"],
  ["/ui/agents", "Agents"],
  ["/ui/threads", "Threads"],
  ["/ui/audit", "Audit"],
  ["/ui/keys", "Keys"],
  ["/ui/jobs", "Jobs"],
] as const;

export function App() {
  if (user.value === undefined) return unasked.value ? <Unasked /> : <Loading what="your session" />;
  return (
    <LocationProvider scope="/ui">
      {user.value === null ? <SignIn /> : <Frame />}
      <Toasts />
    </LocationProvider>
  );
}

/** It is not known whether somebody is signed in. */
function Unasked() {
  useEffect(() => void (document.title = "No answer · Keyfold"), []);
  return (
    <main id="main">
      <Head title="Your session" />
      <Problem error={unasked.value} retry={() => void resume()} />
    </main>
  );
}

function Frame() {
  return (
    <>
      <a class="skip" href="#main">
        Skip to content
      </a>
      <header class="top">
        <a class="brand" href="/ui/">
          <img src="/ui/icon.svg" alt="" width="24" height="24" /> Keyfold
        </a>
        <Places />
        <Who />
      </header>
      <Main />
    </>
  );
}

function Places() {
  const { path } = useLocation();
  return (
    <nav aria-label="Main">
      {places.map(([to, name]) => (
        <a key={to} href={to} aria-current={(to === "/ui/" ? path === "/ui" || path === to : path.startsWith(to)) ? "page" : undefined}>
          {name}
        </a>
      ))}
    </nav>
  );
}

function Who() {
  return (
    <div class="who">
      {unlocked.value.size > 0 && (
        <button type="button" class="small" onClick={lock}>
          Lock {unlocked.value.size === 1 ? "1 key" : `${unlocked.value.size} keys`}
        </button>
      )}
      <a href="/ui/account">{user.value?.email}</a>
      <button type="button" class="small" onClick={() => void signOut()}>
        Sign out
      </button>
    </div>
  );
}

/** The page; the focus goes to it when another one is opened, for who does not see it change. */
function Main() {
  const { path } = useLocation();
  const ref = useRef<HTMLElement>(null);
  const first = useRef(true);
  useEffect(() => {
    if (!first.current) ref.current?.focus();
    first.current = false;
  }, [path]);
  return (
    <main id="main" ref={ref} tabIndex={-1}>
      <Router>
        <Route path="/ui" component={Overview} />
        <Route path="/ui/vaults" component={Vaults} />
        <Route path="/ui/vaults/:vault/:tab?" component={Vault} />
        <Route path="/ui/agents" component={Agents} />
        <Route path="/ui/threads" component={Threads} />
        <Route path="/ui/threads/:thread" component={Thread} />
        <Route path="/ui/audit" component={Audit} />
        <Route path="/ui/keys" component={Keys} />
        <Route path="/ui/jobs" component={Jobs} />
        <Route path="/ui/account" component={Account} />
        <Route default component={Nowhere} />
      </Router>
    </main>
  );
}

function Nowhere() {
  useEffect(() => void (document.title = "No such page · Keyfold"), []);
  return (
    <>
      <Head title="No such page" />
      <Empty title="Nothing is at this address">
        <a href="/ui/">Go to the overview</a>
      </Empty>
    </>
  );
}
