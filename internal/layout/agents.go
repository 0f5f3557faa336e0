package layout

// Agents, keys and signing secrets, beside apikey:<sha256 hex of the key>:
//
//	agent:<org>:<agent>                     agent: name, scopes, binding, hash of its key
//	agentkey:<sha256 hex of the key>        which agent an agent's key is
//	agentof:<org>:<user>:<agent>            index: the agents that a user made (empty value)
//	agentturn:<org>                         written by each creation of an agent that is counted
//	apikeyof:<owner>:<key ID>               index: hash of an API key of the user or org
//	signing:<org>                           IDs of the org's signing secrets; they are sealed:signing:<org>:<ID>

// Agent is the key of an agent; with an empty agent it begins all of the org's.
func Agent(org, agent string) string { return "agent:" + org + ":" + agent }

// AgentKey is the key of an agent's key, named by the hex SHA-256 of it.
func AgentKey(hash string) string { return "agentkey:" + hash }

// AgentOf is the index entry of an agent that the user made; with an empty
// agent it begins all of the user's.
func AgentOf(org, user, agent string) string { return "agentof:" + org + ":" + user + ":" + agent }

// AgentTurn is the key that creations of agents which are counted meet at.
func AgentTurn(org string) string { return "agentturn:" + org }

// APIKeyOf is the index entry of an API key; with an empty ID it begins all of
// the owner's, who is a user or an org.
func APIKeyOf(owner, id string) string { return "apikeyof:" + owner + ":" + id }

// Signing is the key of the list of an org's signing secrets.
func Signing(org string) string { return "signing:" + org }
