package check

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	kubernetesDir = "../kubernetes"
	namespace     = "keyfold"
	appLabel      = "app.kubernetes.io/name"
)

// manifests returns all manifests as one text.
func manifests(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(kubernetesDir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	var texts []string
	for _, file := range files {
		texts = append(texts, read(t, file))
	}
	return strings.Join(texts, "---\n")
}

// decode reads objects strictly: a field that a kind has not, or that is there
// twice, is an error.
func decode(text string) (objects []runtime.Object, found problems) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, batchv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, problems{err.Error()}
		}
	}
	s := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	for doc := range strings.SplitSeq("\n"+text, "\n---\n") {
		o, kind, err := s.Decode([]byte(doc), nil, nil)
		if err != nil {
			found.addf("%v", err)
			continue
		}
		if m := o.(metav1.Object); kind.Kind != "Namespace" && m.GetNamespace() != namespace {
			found.addf("%s %s is in the namespace %q", kind.Kind, m.GetName(), m.GetNamespace())
		}
		objects = append(objects, o)
	}
	return objects, found
}

func objects(t *testing.T, text string) []runtime.Object {
	t.Helper()
	all, found := decode(text)
	if len(found) > 0 {
		t.Fatal(found)
	}
	return all
}

// pod is what a workload runs.
type pod struct {
	name   string
	labels labels.Set
	spec   corev1.PodSpec
	job    bool     // it ends by itself
	claims []string // volumes that the workload makes for it
}

// podsOf returns the pods of all workloads, by the workload's name.
func podsOf(t *testing.T, all []runtime.Object) map[string]pod {
	t.Helper()
	pods := map[string]pod{}
	put := func(name string, template corev1.PodTemplateSpec, job bool, claims ...string) {
		pods[name] = pod{name, template.Labels, template.Spec, job, claims}
	}
	for _, o := range all {
		switch o := o.(type) {
		case *appsv1.Deployment:
			put(o.Name, o.Spec.Template, false)
		case *appsv1.StatefulSet:
			var claims []string
			for _, c := range o.Spec.VolumeClaimTemplates {
				claims = append(claims, c.Name)
			}
			put(o.Name, o.Spec.Template, false, claims...)
		case *batchv1.Job:
			put(o.Name, o.Spec.Template, true)
		case *batchv1.CronJob:
			put(o.Name, o.Spec.JobTemplate.Spec.Template, true)
		}
	}
	return pods
}

// runsOf returns what the containers of p run of our programs, probes included.
func runsOf(p pod) (runs []run) {
	for _, c := range p.spec.Containers {
		image, _, _ := strings.Cut(c.Image, ":")
		r := run{where: p.name, program: filepath.Base(image), args: c.Args, env: map[string]string{}}
		for _, e := range c.Env {
			r.env[e.Name] = e.Value
		}
		runs = append(runs, r)
		for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			if probe != nil && probe.Exec != nil {
				runs = append(runs, run{where: p.name + " (probe)", program: filepath.Base(probe.Exec.Command[0]), args: probe.Exec.Command[1:]})
			}
		}
	}
	return runs
}

func checkKubernetes(t *testing.T, text string) problems {
	all, found := decode(text)
	pods := podsOf(t, all)
	for _, p := range pods {
		found = append(found, checkPod(t, p)...)
		found = append(found, checkAudit(p)...)
		for _, r := range runsOf(p) {
			found = append(found, checkRun(t, r)...)
			found = append(found, checkKeyProcesses(r, all)...)
		}
	}
	for _, o := range all {
		found = append(found, checkSelector(o, pods)...)
	}
	found = append(found, checkClaims(all, pods)...)
	return append(found, checkReach(all, pods)...)
}

func checkPod(t *testing.T, p pod) (found problems) {
	say := func(format string, args ...any) { found.addf(p.name+": "+format, args...) }
	s := p.spec.SecurityContext
	switch {
	case s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser != uid:
		say("does not run as user %d", uid)
	case s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
		say("has no seccomp profile")
	}
	if p.spec.AutomountServiceAccountToken == nil || *p.spec.AutomountServiceAccountToken {
		say("gets a token of the API server")
	}
	volumes := slices.Clone(p.claims)
	for _, v := range p.spec.Volumes {
		volumes = append(volumes, v.Name)
		if v.Secret != nil && (v.Secret.DefaultMode == nil || *v.Secret.DefaultMode&0o007 != 0) {
			say("everybody in the pod can read the secret %s", v.Secret.SecretName)
		}
		if v.Secret != nil && strings.HasSuffix(v.Secret.SecretName, "-store") && !slices.ContainsFunc(v.Secret.Items, func(i corev1.KeyToPath) bool { return i.Key == "ca.crt" }) {
			say("starts without the CA of its database's certificate")
		}
	}
	for _, c := range append(slices.Clone(p.spec.InitContainers), p.spec.Containers...) {
		for _, m := range c.VolumeMounts {
			if !slices.Contains(volumes, m.Name) {
				say("mounts %s, which is no volume of it", m.Name)
			}
		}
		found = append(found, checkContainer(p.name, c)...)
	}
	for _, c := range p.spec.Containers {
		if !p.job && (c.LivenessProbe == nil || c.ReadinessProbe == nil || c.StartupProbe == nil) {
			say("lacks a probe")
		}
		for _, e := range c.Env {
			mounted := slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
				return strings.HasPrefix(e.Value, m.MountPath+"/") || e.Value == m.MountPath
			})
			if strings.HasPrefix(e.Value, "/") && !mounted {
				say("%s names %s, where nothing is mounted", e.Name, e.Value)
			}
		}
		for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			if probe != nil && probe.HTTPGet != nil && !hasPort(p, probe.HTTPGet.Port) || probe != nil && probe.TCPSocket != nil && !hasPort(p, probe.TCPSocket.Port) {
				say("a probe asks a port that it has not")
			}
		}
		for _, port := range c.Ports {
			for _, name := range []string{"KEYFOLD_ADDR", "KEYFOLD_KMS_ENDPOINT"} {
				if listens := runsOf(p)[0].env[name]; listens != "" && !strings.HasSuffix(listens, ":"+strconv.Itoa(int(port.ContainerPort))) {
					say("listens on %s and says that its port is %d", listens, port.ContainerPort)
				}
			}
		}
	}
	return found
}

func checkContainer(where string, c corev1.Container) (found problems) {
	s := c.SecurityContext
	if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
		s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 {
		found.addf("%s/%s may more than it needs", where, c.Name)
	}
	if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
		found.addf("%s/%s does not say what it needs: cpu and memory, and a limit of memory", where, c.Name)
	}
	if _, tag, ok := strings.Cut(c.Image, ":"); !ok || tag == "latest" {
		found.addf("%s/%s: its image names no version", where, c.Name)
	}
	return found
}

// checkAudit looks whether what makes or uses keys keeps its audit.
func checkAudit(p pod) (found problems) {
	r := runsOf(p)[0]
	if r.program != "keyfold-kms" || r.args[0] == "backup" {
		return nil
	}
	for _, m := range p.spec.Containers[0].VolumeMounts {
		kept := slices.Contains(p.claims, m.Name) || slices.ContainsFunc(p.spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name && v.PersistentVolumeClaim != nil })
		if kept && strings.HasPrefix(r.env["KEYFOLD_KMS_DATA_DIR"], m.MountPath+"/") {
			return nil
		}
	}
	return problems{p.name + ": its audit is lost when it ends"}
}

// checkClaims looks whether each volume that a pod claims is made by a manifest, and
// those with a name of the set's are as the set makes them.
func checkClaims(all []runtime.Object, pods map[string]pod) (found problems) {
	there := map[string]corev1.PersistentVolumeClaimSpec{}
	for _, o := range all {
		if c, ok := o.(*corev1.PersistentVolumeClaim); ok {
			there[c.Name] = c.Spec
		}
	}
	for _, p := range pods {
		for _, v := range p.spec.Volumes {
			if c := v.PersistentVolumeClaim; c != nil {
				if _, ok := there[c.ClaimName]; !ok {
					found.addf("%s: claims the volume %s, which nothing makes", p.name, c.ClaimName)
				}
			}
		}
	}
	for _, o := range all {
		if set, ok := o.(*appsv1.StatefulSet); ok {
			for _, template := range set.Spec.VolumeClaimTemplates {
				name := fmt.Sprintf("%s-%s-0", template.Name, set.Name)
				if made, ok := there[name]; !ok || !equality.Semantic.DeepEqual(made, template.Spec) {
					found.addf("the volume %s, in which the keys are made, is not as %s makes it", name, set.Name)
				}
			}
		}
	}
	return found
}

// checkKeyProcesses holds the addresses that r calls against the pods of the set.
func checkKeyProcesses(r run, all []runtime.Object) (found problems) {
	there := map[string]bool{}
	for _, o := range all {
		if set, ok := o.(*appsv1.StatefulSet); ok {
			for i := range *set.Spec.Replicas {
				for _, c := range set.Spec.Template.Spec.Containers {
					there[fmt.Sprintf("%s-%d.%s.%s.svc:%d", set.Name, i, set.Spec.ServiceName, namespace, c.Ports[0].ContainerPort)] = true
				}
			}
		}
	}
	addresses := strings.FieldsFunc(r.env["KEYFOLD_KMS"], func(c rune) bool { return c == ',' })
	if r.program == "keyfold-kms" && r.args[0] == "backup" {
		addresses = strings.Split(r.env["KEYFOLD_KMS_ENDPOINT"], ",")
	}
	for _, address := range addresses {
		if !there[strings.TrimPrefix(address, "https://")] {
			found.addf("%s calls %s, where no key process is", r.where, address)
		}
	}
	if len(addresses) > 0 && len(addresses) != len(there) {
		found.addf("%s calls %d of %d key processes", r.where, len(addresses), len(there))
	}
	return found
}

// checkSelector looks whether what o is for is there, with the port that it names.
func checkSelector(o runtime.Object, pods map[string]pod) (found problems) {
	var name string
	var selector map[string]string
	switch o := o.(type) {
	case *corev1.Service:
		name, selector = "Service "+o.Name, o.Spec.Selector
		for _, p := range pods {
			for _, port := range o.Spec.Ports {
				if labels.SelectorFromSet(selector).Matches(p.labels) && !hasPort(p, port.TargetPort) {
					found.addf("%s: %s has no port %s", name, p.name, port.TargetPort.String())
				}
			}
		}
	case *policyv1.PodDisruptionBudget:
		name, selector = "PodDisruptionBudget "+o.Name, o.Spec.Selector.MatchLabels
	case *networkingv1.NetworkPolicy:
		name, selector = "NetworkPolicy "+o.Name, o.Spec.PodSelector.MatchLabels
	case *appsv1.Deployment:
		name, selector = "Deployment "+o.Name, o.Spec.Selector.MatchLabels
		if !labels.SelectorFromSet(selector).Matches(labels.Set(o.Spec.Template.Labels)) {
			found.addf("%s does not select its own pods", name)
		}
	case *appsv1.StatefulSet:
		name, selector = "StatefulSet "+o.Name, o.Spec.Selector.MatchLabels
		if !labels.SelectorFromSet(selector).Matches(labels.Set(o.Spec.Template.Labels)) {
			found.addf("%s does not select its own pods", name)
		}
	default:
		return nil
	}
	for _, p := range pods {
		if labels.SelectorFromSet(selector).Matches(p.labels) {
			return found
		}
	}
	return append(found, name+" selects no pod")
}

func hasPort(p pod, port intstr.IntOrString) bool {
	for _, c := range p.spec.Containers {
		for _, has := range c.Ports {
			if has.Name == port.StrVal && port.Type == intstr.String || has.ContainerPort == port.IntVal && port.Type == intstr.Int {
				return true
			}
		}
	}
	return false
}

// mayReach says who reaches whom: of each workload that listens, all that a policy
// lets in, by the name of the application.
var mayReach = map[string][]string{
	"keyfold":            {"ingress-nginx/", "monitoring/prometheus"},
	"keyfold-kms":        {"keyfold", "keyfold-operator", "monitoring/prometheus"},
	"keyfold-kms-init":   nil,
	"keyfold-kms-backup": nil,
}

// checkReach adds up the network policies.
func checkReach(all []runtime.Object, pods map[string]pod) (found problems) {
	closed := false // to what no other policy lets in or out
	for _, o := range all {
		if n, ok := o.(*networkingv1.NetworkPolicy); ok && len(n.Spec.PodSelector.MatchLabels) == 0 && len(n.Spec.PodSelector.MatchExpressions) == 0 &&
			len(n.Spec.Ingress) == 0 && len(n.Spec.Egress) == 0 && len(n.Spec.PolicyTypes) == 2 {
			closed = true
		}
	}
	if !closed {
		found.addf("no policy denies what none allows")
	}
	for name, p := range pods {
		var got []string
		for _, o := range all {
			n, ok := o.(*networkingv1.NetworkPolicy)
			if !ok || !labels.SelectorFromSet(n.Spec.PodSelector.MatchLabels).Matches(p.labels) {
				continue
			}
			for _, rule := range n.Spec.Ingress {
				if len(rule.From) == 0 || len(rule.Ports) == 0 {
					got = append(got, "anybody")
				}
				for _, from := range rule.From {
					got = append(got, peer(from))
				}
				for _, port := range rule.Ports {
					if !hasPort(p, *port.Port) {
						found.addf("%s lets into %s on %s, where it does not listen", n.Name, name, port.Port)
					}
				}
			}
		}
		slices.Sort(got)
		if want, known := mayReach[name]; !known || !slices.Equal(got, want) {
			found.addf("%s is reached by %q; want %q", name, got, want)
		}
	}
	return found
}

// peer names whom a rule lets in: NAMESPACE/APPLICATION, or APPLICATION of our own.
func peer(p networkingv1.NetworkPolicyPeer) string {
	if p.IPBlock != nil {
		return p.IPBlock.CIDR
	}
	name := ""
	if p.NamespaceSelector != nil {
		name = p.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"] + "/"
		if len(p.NamespaceSelector.MatchLabels) == 0 {
			name = "any namespace/"
		}
	}
	if p.PodSelector != nil {
		if len(p.PodSelector.MatchLabels) == 0 {
			name += "any pod"
		}
		name += p.PodSelector.MatchLabels[appLabel]
	}
	return name
}

func TestTheManifestsAreSound(t *testing.T) {
	holds(t, manifests(t), checkKubernetes, []breaking{
		{"replicas: 3", "replica: 3", "unknown field"},
		{"replicas: 3", "replicas: 3\n  replicas: 2", "already set"},
		{"replicas: 3", "replicas: three", "replicas"},
		{"runAsNonRoot: true", "runAsNonRoot: false", "does not run as user"},
		{"seccompProfile: {type: RuntimeDefault}", "seccompProfile: {type: Unconfined}", "seccomp"},
		{"readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "more than it needs"},
		{"capabilities: {drop: [ALL]}", "capabilities: {drop: [ALL], add: [NET_RAW]}", "more than it needs"},
		{"limits: {memory: 1Gi}", "limits: {cpu: 1}", "what it needs"},
		{"image: registry.example.com/keyfold:VERSION", "image: registry.example.com/keyfold", "names no version"},
		{"{name: tls, mountPath", "{name: tsl, mountPath", "no volume"},
		{"value: /run/keyfold/tls/tls.crt", "value: /run/tls/tls.crt", "nothing is mounted"},
		{"secretName: keyfold-store\n            defaultMode: 0440", "secretName: keyfold-store", "everybody in the pod"},
		{"              - {key: ca.crt, path: ca.crt}\n", "", "without the CA"},
		{"          persistentVolumeClaim: {claimName: audit-keyfold-kms-0}", "          emptyDir: {}", "its audit is lost"},
		{"claimName: audit-keyfold-kms-0", "claimName: audit-keyfold-kms-9", "which nothing makes"},
		{"  name: audit-keyfold-kms-0", "  name: audit-keyfold-kms-1", "is not as keyfold-kms makes it"},
		{"name: KEYFOLD_PUBLIC_URL", "name: KEYFOLD_PUBLICURL", "reads no variable KEYFOLD_PUBLICURL"},
		{"{name: KEYFOLD_STORE_FILE, value: /run/keyfold/store/url}", "{name: KEYFOLD_STORE_FILE, value: \"postgres://u:p@h/d\"}", "what others can read"},
		{"{name: KEYFOLD_METRICS_TOKEN_FILE, value: /run/keyfold/metrics/token}", "{name: KEYFOLD_METRICS_TOKEN, value: 0123456789abcdef0123456789abcdef}", "what others can read"},
		{"{name: metrics, mountPath: /run/keyfold/metrics,", "{name: metrics, mountPath: /run/keyfold/token,", "nothing is mounted"},
		{"secretName: keyfold-metrics, defaultMode: 0440", "secretName: keyfold-metrics", "everybody in the pod"},
		{"args: [serve]", "args: [server]", "no command keyfold-kms server"},
		{"args: [backup, --out,", "args: [backup, --to,", "no flag --to"},
		{"keyfold-kms-1.keyfold-kms.keyfold.svc:7421", "keyfold-kms-2.keyfold-kms.keyfold.svc:7421", "where no key process is"},
		{",https://keyfold-kms-1.keyfold-kms.keyfold.svc:7421", "", "1 of 2 key processes"}, // of the backup, whose manifest is first
		{"containerPort: 7420", "containerPort: 7430", "says that its port is 7430"},
		{"port: 80, targetPort: http", "port: 80, targetPort: https", "has no port https"},
		{"- podSelector:\n            matchLabels: {app.kubernetes.io/name: keyfold}\n", "- podSelector: {}\n", "any pod"},
		{"name: nothing\n  namespace: keyfold\nspec:\n  podSelector: {}\n  policyTypes: [Ingress, Egress]", "name: nothing\n  namespace: keyfold\nspec:\n  podSelector: {}\n  policyTypes: [Egress]", "no policy denies"},
		{"  ingress:\n    - from:\n        - podSelector:", "  ingress:\n    - {}\n    - from:\n        - podSelector:", "anybody"},
		{"kind: PodDisruptionBudget\nmetadata:\n  name: keyfold\n  namespace: keyfold\nspec:\n  maxUnavailable: 1\n  selector:\n    matchLabels: {app.kubernetes.io/name: keyfold}",
			"kind: PodDisruptionBudget\nmetadata:\n  name: keyfold\n  namespace: keyfold\nspec:\n  maxUnavailable: 1\n  selector:\n    matchLabels: {app: keyfold}", "selects no pod"},
		{"path: /healthz, port: http", "path: /healthz, port: web", "a port that it has not"},
		{"namespace: keyfold\n  labels: {app.kubernetes.io/name: keyfold}\nspec:\n  replicas", "namespace: default\n  labels: {app.kubernetes.io/name: keyfold}\nspec:\n  replicas", `namespace "default"`},
		{"automountServiceAccountToken: false\n      enableServiceLinks", "enableServiceLinks", "token of the API server"},
	})
}
