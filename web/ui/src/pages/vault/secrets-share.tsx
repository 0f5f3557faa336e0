// Sharing a secret by a link, and the shares that the user has made.

import { useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { useLoad, type Loaded } from "../../load.js";
import { client } from "../../session.js";
import { Confirm, Dialog } from "../../ui/dialog.js";
import { Check, Choice, Field, Form } from "../../ui/form.js";
import { Once } from "../../ui/once.js";
import { Badge, Head, Table, Time } from "../../ui/parts.js";
import { Show } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";

const hour = 3_600_000;
const lives = [
  ["1", "1 hour"],
  ["24", "1 day"],
  ["168", "7 days"],
  ["720", "30 days"],
] as const;

interface ShareProps {
  secret: wire.SecretMetadata;
  /** The fingerprint of the key that the secret is sealed with; nothing: it is not. */
  sealedWith: string | null | undefined;
  close: () => void;
  /** A share was made. */
  made: () => void;
}

/** Makes a link that opens the secret for a while, and shows it once. */
export function Share({ secret, sealedWith, close, made }: ShareProps) {
  const [link, setLink] = useState<wire.CreatedShare>();
  const done = (share: wire.CreatedShare) => {
    setLink(share);
    made();
  };
  if (link) return <Link key="link" link={link} sealedWith={sealedWith} close={close} />;
  return (
    <Dialog key="form" title={`Share ${secret.path}`} close={close}>
      <Terms secret={secret} sealedWith={sealedWith} close={close} done={done} />
    </Dialog>
  );
}

interface TermsProps extends Pick<ShareProps, "secret" | "sealedWith" | "close"> {
  done: (share: wire.CreatedShare) => void;
}

function Terms({ secret, sealedWith, close, done }: TermsProps) {
  const [life, setLife] = useState("24");
  const [reads, setReads] = useState("1");
  const [passphrase, setPassphrase] = useState("");
  const [hasKey, setHasKey] = useState(false);
  const send = () => {
    const request: wire.CreateShare = { recipient_type: "anyone_with_link", expires_at: new Date(Date.now() + Number(life) * hour).toISOString() };
    if (reads) request.max_access_count = Number(reads);
    if (passphrase) request.passphrase = passphrase;
    if (sealedWith) Object.assign(request, { recipient_has_key: hasKey, cmek_fingerprint: sealedWith });
    return client.shares.create(secret.id, request);
  };
  return (
    <Form submit="Make the link" send={send} done={done} cancel={close} disabled={Boolean(sealedWith) && !hasKey}>
      {sealedWith ? (
        <div class="notice">
          <p>
            This secret is sealed. The link hands out the sealed value, which only the key <code>{sealedWith.slice(0, 8)}</code> opens: neither the server nor whoever finds the link can read it without that key. The key
            is not shared here; do not send it the way that you send the link.
          </p>
        </div>
      ) : (
        <p>Whoever has the link can read the newest version of this secret, also a version that is written later, until the link ends.</p>
      )}
      <div class="two">
        <Choice label="Ends after" value={life} onValue={setLife} options={lives} />
        <Field label="Reads" type="number" min={1} max={2147483647} hint="Empty: as many as one likes" value={reads} onValue={setReads} />
      </div>
      <Field label="Passphrase" type="password" autocomplete="new-password" minLength={4} maxLength={256} hint="If set, it is needed to open the link. Send it another way" value={passphrase} onValue={setPassphrase} />
      {sealedWith && <Check label={`Whoever gets the link has the key ${sealedWith.slice(0, 8)}`} checked={hasKey} onChecked={setHasKey} />}
    </Form>
  );
}

function Link({ link, sealedWith, close }: { link: wire.CreatedShare; sealedWith: string | null | undefined; close: () => void }) {
  const count = link.max_access_count;
  return (
    <Once title="The link" what="the link" text={link.share_url} file="link.txt" close={close}>
      <p>
        It is shown only now. {sealedWith ? "Whoever has it gets the sealed value" : "Whoever has it can read the secret"}
        {count ? `, ${count === 1 ? "once" : `${count.toLocaleString()} times`},` : ""} until <Time at={link.expires_at} exact />. <code>keyfold share read LINK</code> {sealedWith ? "opens it with the key" : "writes the value"}; a browser shows
        the server's JSON.
      </p>
    </Once>
  );
}

/** The shares that the user has made. */
export const useShares = () => useLoad(() => client.shares.listOutbound(), []);

interface SharesProps {
  of: Loaded<{ shares: wire.Share[] }>;
  /** Which of them are shown. */
  which: (share: wire.Share) => boolean;
  /** Names each one's secret. */
  paths?: boolean;
}

/** The user's shares, which can be ended; nothing where there are none. */
export function Shares({ of, which, paths }: SharesProps) {
  const [ending, setEnding] = useState<wire.Share>();
  const ended = () => {
    toast("The share has ended");
    setEnding(undefined);
    of.reload();
  };
  return (
    <Show of={of} what="your shares">
      {({ shares }) => {
        const shown = shares.filter(which);
        if (shown.length === 0) return null;
        return (
          <>
            <Head title="Your shares" level={2} />
            <Table label="Shares" columns={[...(paths ? ["Secret"] : []), "For", "Made", "Ends", { name: "Reads", kind: "num" }, "State", { name: "Actions", kind: "sr" }]}>
              {shown.map((s) => (
                <Row key={s.id} share={s} paths={paths} end={setEnding} />
              ))}
            </Table>
            {ending && (
              <Confirm title="End the share" submit="End it" send={() => client.shares.delete(ending.id)} done={ended} close={() => setEnding(undefined)}>
                <p>
                  Nobody can open this share of <code>{ending.secret_path}</code> from then on. Who has read the value by it still knows it.
                </p>
              </Confirm>
            )}
          </>
        );
      }}
    </Show>
  );
}

const recipients: Record<string, string> = { anyone_with_link: "anyone with the link", creator: "yourself" };

function Row({ share: s, paths, end }: { share: wire.Share; paths: boolean | undefined; end: (share: wire.Share) => void }) {
  const to = s.recipient_email ?? recipients[s.recipient_type] ?? `${s.recipient_type} ${s.recipient_id?.slice(0, 8) ?? ""}`;
  return (
    <tr>
      {paths && (
        <td>
          <a href={`/ui/vaults/${s.vault_id}/secrets?path=${encodeURIComponent(s.secret_path)}`}>{s.secret_path}</a>
        </td>
      )}
      <td>{to}</td>
      <td>
        <Time at={s.created_at} />
      </td>
      <td>
        <Time at={s.expires_at} />
      </td>
      <td class="num">
        {s.access_count.toLocaleString()}
        {s.max_access_count ? ` of ${s.max_access_count.toLocaleString()}` : ""}
      </td>
      <td>{s.is_expired ? <Badge>over</Badge> : <Badge kind="warn">open</Badge>}</td>
      <td class="end">
        <button type="button" class="small" aria-label={`${s.is_expired ? "Remove" : "End"} the share of ${s.secret_path} for ${to}`} onClick={() => end(s)}>
          {s.is_expired ? "Remove" : "End"}
        </button>
      </td>
    </tr>
  );
}
