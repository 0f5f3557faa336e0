//go:build cgo && !windows

package pkcs11root

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>

// What PKCS#11 2.40 lays down of the three calls below. The order of the
// functions in a library's list is part of that standard.
typedef unsigned long ulong_t;
typedef struct { unsigned char version[2]; void *fn[68]; } functions;
typedef struct { ulong_t mechanism; void *param; ulong_t len; } mechanism;
typedef struct { void *iv; ulong_t iv_len, iv_bits; void *aad; ulong_t aad_len, tag_bits; } gcm_params;
enum { LOGIN = 18, ENCRYPT_INIT = 29, DECRYPT_INIT = 33 };

static functions *load(const char *path, const char **why) {
	functions *list = NULL;
	void *lib = dlopen(path, RTLD_NOW);
	if (!lib) { *why = dlerror(); return NULL; }
	ulong_t (*get)(functions **) = (ulong_t (*)(functions **))dlsym(lib, "C_GetFunctionList");
	if (!get || get(&list) || !list) { *why = "it is not a PKCS#11 library"; return NULL; }
	return list;
}

static ulong_t login(functions *f, ulong_t session, void *pin, ulong_t len) {
	return ((ulong_t (*)(ulong_t, ulong_t, void *, ulong_t))f->fn[LOGIN])(session, 1, pin, len);
}

typedef struct { ulong_t rv, iv_len, n; } result;

// gcm runs init and the function after it: both calls of one operation.
static result gcm(functions *f, int init, ulong_t session, ulong_t key, void *iv, ulong_t iv_len,
		void *aad, ulong_t aad_len, void *in, ulong_t in_len, void *out, ulong_t room) {
	gcm_params p = {iv, iv_len, iv_len * 8, aad_len ? aad : NULL, aad_len, 128};
	mechanism m = {0x1087, &p, sizeof p};
	result r = {0, 0, room};
	r.rv = ((ulong_t (*)(ulong_t, mechanism *, ulong_t))f->fn[init])(session, &m, key);
	if (r.rv) return r;
	r.rv = ((ulong_t (*)(ulong_t, void *, ulong_t, void *, ulong_t *))f->fn[init + 1])(session, in, in_len, out, &r.n);
	r.iv_len = p.iv_len;
	return r;
}
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/miekg/pkcs11"
)

type (
	session = pkcs11.SessionHandle
	object  = pkcs11.ObjectHandle
)

// cryptoki is what this package calls of a PKCS#11 library.
type cryptoki interface {
	Initialize(...pkcs11.InitializeOption) error
	Finalize() error
	GetSlotList(tokenPresent bool) ([]uint, error)
	GetTokenInfo(slot uint) (pkcs11.TokenInfo, error)
	OpenSession(slot, flags uint) (session, error)
	CloseSession(session) error
	GetSessionInfo(session) (pkcs11.SessionInfo, error)
	GenerateKey(session, []*pkcs11.Mechanism, []*pkcs11.Attribute) (object, error)
	FindObjectsInit(session, []*pkcs11.Attribute) error
	FindObjects(s session, most int) ([]object, bool, error)
	FindObjectsFinal(session) error
	GetAttributeValue(session, object, []*pkcs11.Attribute) ([]*pkcs11.Attribute, error)
	DestroyObject(session, object) error

	login(s session, pin []byte) error
	encrypt(s session, key object, iv, aad, in, out []byte) (ivLen, n int, err error)
	decrypt(s session, key object, iv, aad, in, out []byte) (n int, err error)
}

// library is a loaded PKCS#11 library. The calls that carry secrets are our
// own: pkcs11.Ctx copies PINs and plaintexts into memory of C and frees it
// unwiped.
type library struct {
	*pkcs11.Ctx
	list *C.functions
}

func load(path string) (*library, error) {
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var why *C.char
	list := C.load(cpath, &why)
	if list == nil {
		return nil, fmt.Errorf("%s", C.GoString(why))
	}
	return &library{Ctx: pkcs11.New(path), list: list}, nil
}

func (l *library) login(s session, pin []byte) error {
	return asError(C.login(l.list, C.ulong_t(s), pointer(pin), length(pin)))
}

// encrypt is CKM_AES_GCM with a tag of 128 bits. iv is given to the token, which
// may write another one into it; ivLen says how long that is.
func (l *library) encrypt(s session, key object, iv, aad, in, out []byte) (ivLen, n int, err error) {
	r := C.gcm(l.list, C.ENCRYPT_INIT, C.ulong_t(s), C.ulong_t(key), pointer(iv), length(iv), pointer(aad), length(aad),
		pointer(in), length(in), pointer(out), length(out))
	return int(r.iv_len), int(r.n), asError(r.rv)
}

func (l *library) decrypt(s session, key object, iv, aad, in, out []byte) (n int, err error) {
	r := C.gcm(l.list, C.DECRYPT_INIT, C.ulong_t(s), C.ulong_t(key), pointer(iv), length(iv), pointer(aad), length(aad),
		pointer(in), length(in), pointer(out), length(out))
	return int(r.n), asError(r.rv)
}

func pointer(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }
func length(b []byte) C.ulong_t       { return C.ulong_t(len(b)) }

func asError(rv C.ulong_t) error {
	if rv == 0 {
		return nil
	}
	return pkcs11.Error(rv)
}
