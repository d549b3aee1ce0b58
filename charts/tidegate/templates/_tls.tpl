{{/* The Secret of a face (root, face, adapter) with the certificate that its tls asks for; nothing where it asks for none. */}}
{{- define "tidegate.tlsSecret" -}}
{{- if .adapter.tls.secretName -}}{{ .adapter.tls.secretName }}
{{- else if .adapter.tls.issuerRef.name -}}{{ include "tidegate.fullname" .root }}-{{ .face }}-tls
{{- end -}}
{{- end -}}

{{/* Fails where what a face (root, face, adapter) says of certificates does not go together. */}}
{{- define "tidegate.checkTls" -}}
{{- $tls := .adapter.tls -}}
{{- $of := printf "adapters.%s.tls" .face -}}
{{- $secret := include "tidegate.tlsSecret" . -}}
{{- $auth := $tls.clientAuth | default "Optional" -}}
{{- if and $tls.clientCaSecretName (not $secret) -}}
{{- fail (printf "%s.clientCaSecretName needs a certificate: name its Secret in secretName, or an issuer" $of) -}}
{{- end -}}
{{- if and (eq $auth "Required") (not $tls.clientCaSecretName) -}}
{{- fail (printf "%s.clientAuth=Required needs clientCaSecretName: the Secret with the authorities that sign devices' certificates" $of) -}}
{{- end -}}
{{- if and $tls.dnsNames (not $tls.issuerRef.name) -}}
{{- fail (printf "%s.dnsNames needs issuerRef.name: the issuer that makes a certificate with these names" $of) -}}
{{- end -}}
{{- $has := dict -}}
{{- range .adapter.spec.listeners -}}
{{- with .tls -}}
{{- $_ := set $has (printf "certificate %s" (.secretRef).name) true -}}
{{- $_ := set $has (printf "authority %s" (.clientCaRef).name) true -}}
{{- $_ := set $has (printf "asked %s" (.clientAuth | default "Optional")) true -}}
{{- end -}}
{{- if eq (.transport | default "TCP") "TLS" }}{{ $_ := set $has "TLS" true }}{{ end -}}
{{- end -}}
{{- if .adapter.spec.listeners -}}
{{- $instead := printf "counts for nothing, since adapters.%s.spec.listeners says what the listeners are" .face -}}
{{- /* What an issuer makes is made in any case, and TLS may end with it before the pods. */ -}}
{{- $ends := and $tls.issuerRef.name (or .adapter.spec.ingress .adapter.spec.gateway) -}}
{{- if and $secret (not $ends) (not (hasKey $has (printf "certificate %s" $secret))) -}}
{{- fail (printf "%s.%s %s: name the Secret %s in tls.secretRef of those with TLS, or leave the listeners to the chart" $of (ternary "issuerRef.name" "secretName" (ne ($tls.issuerRef.name | default "") "")) $instead $secret) -}}
{{- end -}}
{{- if and $tls.clientCaSecretName (not (hasKey $has (printf "authority %s" $tls.clientCaSecretName))) -}}
{{- fail (printf "%s.clientCaSecretName %s: name the Secret %s in their tls.clientCaRef, or leave the listeners to the chart" $of $instead $tls.clientCaSecretName) -}}
{{- end -}}
{{- if and $tls.clientCaSecretName (ne $auth "Optional") (not (hasKey $has (printf "asked %s" $auth))) -}}
{{- fail (printf "%s.clientAuth=%s %s: say %s in their tls.clientAuth too, or leave the listeners to the chart" $of $auth $instead $auth) -}}
{{- end -}}
{{- end -}}
{{- if $tls.serverCaSecretName -}}
{{- if eq .face "coap" -}}
{{- fail (printf "%s.serverCaSecretName is of no use: what `helm test` shows over DTLS is a key, which needs no certificate" $of) -}}
{{- end -}}
{{- if not (or (hasKey $has "TLS") (and $secret (not .adapter.spec.listeners))) -}}
{{- fail (printf "%s.serverCaSecretName needs a listener with TLS, whose certificate it is about" $of) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The port of a face (root, face, adapter) with TLS, or for CoAP DTLS, where a key is enough; nothing where there is none. */}}
{{- define "tidegate.securePort" -}}
{{- $ports := list -}}
{{- $transport := ternary "DTLS" "TLS" (eq .face "coap") -}}
{{- range .adapter.spec.listeners -}}
{{- if and (eq (.transport | default "TCP") $transport) (ne ((.tls).clientAuth | default "Optional") "Required") }}{{ $ports = append $ports .port }}{{ end -}}
{{- end -}}
{{- $made := or (eq .face "coap") (include "tidegate.tlsSecret" .) -}}
{{- if $ports -}}{{ first $ports }}
{{- else if and $made (not .adapter.spec.listeners) (ne (.adapter.tls.clientAuth | default "Optional") "Required") -}}{{ index (include "tidegate.ports" . | fromYaml) .face "tls" }}
{{- end -}}
{{- end -}}

{{/* The Secret whose ca.crt signed the certificate of a face (root, face, adapter), for the name of its Service; nothing where that is not known. */}}
{{- define "tidegate.serverCa" -}}
{{- if .adapter.tls.serverCaSecretName -}}{{ .adapter.tls.serverCaSecretName }}
{{- else if .adapter.tls.issuerRef.name -}}{{ include "tidegate.tlsSecret" . }}
{{- end -}}
{{- end -}}

{{/* How the authority of a face's certificate (root, face, adapter) comes into ca.crt, as a line of its own. */}}
{{- define "tidegate.fetchCa" -}}
{{- $ca := include "tidegate.serverCa" . }}
{{- if $ca }}
kubectl get secret --namespace {{ .root.Release.Namespace }} {{ $ca }} --output jsonpath='{.data.ca\.crt}' | base64 --decode > ca.crt
{{- else }}
# Put the authority that signed the certificate into ca.crt first{{ if eq .face "http" }}, and a name that it has in the place of {{ include "tidegate.fullname" .root }}-http.{{ .root.Release.Namespace }}.svc{{ end }}.
{{- end }}
{{- end -}}

{{/* What `helm test` leaves out, and why, a line each. */}}
{{- define "tidegate.unchecked" -}}
{{- range $face, $adapter := .Values.adapters -}}
{{- $of := dict "root" $ "face" $face "adapter" $adapter -}}
{{- $transports := list -}}
{{- range $adapter.spec.listeners }}{{ $transports = append $transports (.transport | default "TCP") }}{{ end -}}
{{- if not $adapter.spec.listeners -}}
{{- if eq $face "coap" }}{{ $transports = list "DTLS" }}{{ else if include "tidegate.tlsSecret" $of }}{{ $transports = list "TLS" }}{{ end -}}
{{- end -}}
{{- $secure := include "tidegate.securePort" $of -}}
{{- if $adapter.enabled -}}
{{- range $transports -}}
{{- if and (has . (list "TLS" "DTLS")) (not $secure) }}
- {{ $face }} over {{ . }}, since devices have to show certificates there
{{- else if and (eq . "TLS") (not (include "tidegate.serverCa" $of)) }}
- {{ $face }} over TLS, since nothing says who signed its certificate: adapters.{{ $face }}.tls.serverCaSecretName may
{{- else if eq . "WebSocket" }}
- {{ $face }} over WebSocket, which it does not speak
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
