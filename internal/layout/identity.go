package layout

// People, beside org:<org> and user:<user>:
//
//	useremail:<email>               index: ID of the user with this email, lower-cased and escaped
//	orguser:<org>:<user>            index: the users of an org; the value is the role
//	password:<user>                 Argon2id of the user's password, as a PHC string (absent: none)
//	totp:<user>                     second factor: last step used, hashes of recovery codes
//	invitation:<org>:<id>           invitation: email, role, hash of its text, expiry
//	invitationtext:<sha256 hex>     index: which invitation a text is
//	identitystep                    the rows of users that were there before the two indexes have been entered

// UserEmail is the index entry of an email.
func UserEmail(email string) string { return "useremail:" + escape(email) }

// OrgUser is the index entry of a user; with an empty user it begins all of the org's.
func OrgUser(org, user string) string { return "orguser:" + org + ":" + user }

// Users begins the keys of all users.
func Users() string { return "user:" }

// Password is the key of the hash of a user's password.
func Password(user string) string { return "password:" + user }

// TOTP is the key of the state of a user's second factor.
func TOTP(user string) string { return "totp:" + user }

// Invitation is the key of an invitation; with an empty ID it begins all of the org's.
func Invitation(org, id string) string { return "invitation:" + org + ":" + id }

// InvitationText is the index entry of an invitation's text, by the hex SHA-256 of it.
func InvitationText(hash string) string { return "invitationtext:" + hash }

// IdentityStep marks that older users have been entered in the indexes.
func IdentityStep() string { return "identitystep" }
