// The bodies of the wire, by the names of the server's document. Times are RFC
// 3339 strings, IDs opaque ones.

import type { components } from "./openapi.js";

type Schemas = components["schemas"];

export type SecretType = NonNullable<Schemas["Secret"]["type"]>;
export type Vault = Schemas["Vault"];
export type CreateVault = Omit<Schemas["CreateVault"], "description"> & { description?: string };
export type EnableCmek = Schemas["EnableCMEK"];
export type CmekStatus = Schemas["CMEKStatus"];
export type RotateCmek = Schemas["RotateCMEK"];
export type RotationJob = Schemas["CMEKRotationJob"];
export type Rotations = Schemas["CMEKRotations"];
export type RotationKey = Schemas["CMEKRotationKey"];
export type SealedRotationKeys = Schemas["SealedCMEKKeys"];
export type CmekVersion = Schemas["CMEKVersion"];
export type CmekVersions = Schemas["CMEKVersions"];

export type SecretMetadata = Schemas["SecretMetadata"];
export type Secret = Schemas["Secret"];
export type ListedSecret = Schemas["ListedSecret"];
export type VersionMetadata = Schemas["VersionMetadata"];
export type GenerateSecret = Schemas["GenerateSecret"];

export type Token = Schemas["Token"];
export type SignUp = Schemas["SignUp"];
export type SignedUp = Schemas["SignedUp"];
export type SignedIn = Schemas["SignedIn"];
export type Profile = Schemas["Profile"];
export type UpdateProfile = Schemas["UpdateProfile"];
export type TOTP = Schemas["TOTP"];
export type RecoveryCodes = Schemas["RecoveryCodes"];
export type Passkey = Schemas["Passkey"];
export type Passkeys = Schemas["Passkeys"];
export type PasskeyChallenge = Schemas["PasskeyChallenge"];

export type Org = Schemas["Org"];
export type Member = Schemas["Member"];
export type Members = Schemas["Members"];
export type CreateInvitation = Schemas["CreateInvitation"];
export type Invitation = Schemas["Invitation"];
export type InvitationCreated = Schemas["InvitationCreated"];
export type Invitations = Schemas["Invitations"];

export type CreateAgent = Schemas["CreateAgent"];
export type UpdateAgent = Schemas["UpdateAgent"];
export type Agent = Schemas["Agent"];
export type AgentCreated = Schemas["AgentCreated"];
export type AgentSelf = Schemas["AgentSelf"];
export type AgentKeyRotated = Schemas["AgentKeyRotated"];
export type Agents = Schemas["Agents"];

export type CreateApiKey = Schemas["CreateAPIKey"];
export type ApiKey = Schemas["APIKey"];
export type ApiKeyCreated = Schemas["APIKeyCreated"];

export type CreatePolicy = Schemas["CreatePolicy"];
export type UpdatePolicy = Schemas["UpdatePolicy"];
export type Policy = Schemas["Policy"];
export type PolicyConditions = Schemas["PolicyConditions"];
export type TimeWindow = Schemas["TimeWindow"];

export type AuditEvent = Schemas["AuditEvent"];
export type AuditEvents = Schemas["AuditEvents"];
export type AuditVerification = Schemas["AuditVerification"];

export type CreateShare = Schemas["CreateShare"];
export type CreatedShare = Schemas["CreatedShare"];
export type SharedSecret = Schemas["SharedSecret"];
export type Share = Schemas["Share"];

export type Thread = Schemas["Thread"];
export type Threads = Schemas["Threads"];
export type PostMessage = Schemas["PostMessage"];
export type Message = Schemas["Message"];
export type Messages = Schemas["Messages"];
export type EditMessage = Partial<Schemas["EditMessage"]>;
export type MessageVersions = Schemas["MessageVersions"];
export type Reactions = Schemas["Reactions"];
export type Participant = Schemas["Participant"];
export type Participants = Schemas["Participants"];
export type MessageEvent = Schemas["MessageEvent"];
export type ImportedMessages = Schemas["ImportedMessages"];
export type Hold = Schemas["Hold"];
export type Retention = Schemas["Retention"];
export type RetentionPreview = Schemas["RetentionPreview"];
export type Health = Schemas["Health"];

export type RotateKek = Schemas["RotateKEK"];
export type AuditCheckpoint = Schemas["AuditCheckpoint"];
export type EncryptionKeys = Schemas["EncryptionKeys"];
export type Kek = Schemas["KEK"];
export type KekVersion = Schemas["KEKVersion"];
export type EncryptionDeks = Schemas["EncryptionDEKs"];
export type Dek = Schemas["DEK"];
export type RootKey = Schemas["RootKey"];
export type KeyAges = Schemas["KeyAges"];
export type RotateThreadDek = Schemas["RotateThreadDEK"];
export type ThreadDekRotated = Schemas["ThreadDEKRotated"];
export type Job = Schemas["Job"];
export type Jobs = Schemas["Jobs"];
export type Stats = Schemas["Stats"];
export type ServiceHealth = Schemas["ServiceHealth"];
export type StoreKeys = Schemas["StoreKeys"];

/** Which events a page of the trail holds. */
export interface AuditQuery {
  /** Of the resource, or of the vault that it is in. */
  resource_id?: string;
  actor_id?: string;
  action?: string;
  /** Inclusive. */
  from?: string;
  /** Exclusive. */
  to?: string;
  limit?: number;
  offset?: number;
}
