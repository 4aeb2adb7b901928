{{- define "muster.labels" -}}
app.kubernetes.io/name: muster
app.kubernetes.io/part-of: muster
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "muster.restricted" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- /* The agent's user. The kubelet's socket and the kernel log are root's; without them it is nobody special. Who owns its
folders, who it is and whom the setter obeys have to be one. */ -}}
{{- define "muster.agent.user" -}}
{{ if or .Values.agent.podLabels .Values.agent.kernelLog }}0{{ else }}65532{{ end }}
{{- end -}}
