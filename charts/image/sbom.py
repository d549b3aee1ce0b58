#!/usr/bin/env python3
"""sbom.py TARGET PROGRAM...: what the programs are made of, as a CycloneDX bill of materials, as Cargo resolves it.

Only what is linked in: neither what builds, nor what tests. The same lock file gives the same bytes.
"""
import json, re, subprocess, sys

target, *programs = sys.argv[1:]
tree = subprocess.run(
    ['cargo', 'tree', '--locked', '--edges=normal', '--prefix=depth', f'--target={target}', '--format=|{p}|{l}',
     *(argument for program in programs for argument in ('--package', program))],
    stdout=subprocess.PIPE, check=True, text=True).stdout

components, edges, above = {}, {}, []
for line in filter(None, tree.splitlines()):
    depth, package, terms = line.split('|', 2)
    name, version = re.match(r'(\S+) v(\S+)', package).groups()
    reference = f'pkg:cargo/{name}@{version}'
    del above[int(depth):]
    # What a macro is made of is linked into the compiler.
    is_macro = '(proc-macro)' in package or (bool(above) and above[-1] is None)
    above.append(None if is_macro else reference)
    if is_macro:
        continue
    edges.setdefault(reference, set())
    edges.setdefault(above[-2] if len(above) > 1 else 'tidegate', set()).add(reference)
    component = {'type': 'library', 'bom-ref': reference, 'name': name, 'version': version, 'purl': reference}
    terms = terms.removesuffix(' (*)').strip()
    if terms:
        component['licenses'] = [{'expression': terms.replace('/', ' OR ')}]
    components[reference] = component

version = next(component['version'] for component in components.values() if component['name'] == programs[0])
json.dump({
    'bomFormat': 'CycloneDX', 'specVersion': '1.6', 'version': 1,
    'metadata': {'component': {'type': 'container', 'bom-ref': 'tidegate', 'name': 'tidegate', 'version': version}},
    'components': [components[reference] for reference in sorted(components)],
    'dependencies': [{'ref': reference, 'dependsOn': sorted(edges[reference])} for reference in sorted(edges)],
}, sys.stdout, indent=1)
print()
