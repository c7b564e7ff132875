const HEAD = `#version 300 es
precision highp float;
precision highp int;
uniform vec4 uProjection; // scales of x and y, and of the depth
uniform vec2 uJitter;
uniform bool uParallel;
uniform mat3 uTurn;
uniform vec3 uPlace; // of the center, seen by the viewer
uniform vec4 uClip; // normal and distance of the clip plane
vec4 projected(vec3 v) {
  float w = uParallel ? 1.0 : -v.z;
  return vec4(uProjection.xy * v.xy + uJitter * w, uProjection.z * v.z + uProjection.w, w);
}
float depthOf(vec3 v) { vec4 p = projected(v); return 0.5 + 0.5 * p.z / p.w; }
bool cut(vec3 p) { return dot(uClip.xyz, p) > uClip.w; }
const vec4 NOWHERE = vec4(2.0, 2.0, 2.0, 1.0);
`;

// Atoms: squares on the screen in which the sphere is found by its equation. Small ones are drawn as points,
// large ones as quadrilaterals, which are not lost where their center leaves the picture.
const sphereVertex = (points) => `${HEAD}
const bool POINTS = ${points};
layout(location = 0) in vec4 aAtom; // position and species
layout(location = 1) in float aValue;
uniform sampler2D uSpecies, uRadii, uColors;
uniform int uMode; // 0 species, 1 classes, 2 scalar
uniform vec2 uRange;
uniform float uSize, uPixel;
uniform int uStride;
flat out vec3 vCenter;
flat out float vRadius;
flat out vec4 vColor;
flat out int vNumber;
void main() {
  int species = int(aAtom.w + 0.5);
  vec4 own = texelFetch(uSpecies, ivec2(species, 0), 0), color = own;
  if (uMode == 1) color = texelFetch(uColors, ivec2(int(aValue + 0.5), 0), 0);
  if (uMode == 2) {
    float share = clamp((aValue - uRange.x) / (uRange.y - uRange.x), 0.0, 1.0);
    color = aValue < -2e38 ? vec4(0.6, 0.6, 0.6, 1.0) : texelFetch(uColors, ivec2(int(share * 254.0 + 0.5), 0), 0);
  }
  vNumber = (POINTS ? gl_VertexID : gl_InstanceID) * uStride;
  gl_PointSize = 1.0;
  if (own.a < 0.5 || color.a < 0.5 || cut(aAtom.xyz)) { gl_Position = NOWHERE; return; }
  vRadius = uSize * texelFetch(uRadii, ivec2(species, 0), 0).r;
  vCenter = uTurn * aAtom.xyz + uPlace;
  vColor = vec4(color.rgb, 1.0);
  if (POINTS) {
    if (!uParallel && vCenter.z > -vRadius) { gl_Position = NOWHERE; return; }
    // Nothing is smaller than a pixel.
    vRadius = max(vRadius, 0.6 * uPixel * (uParallel ? 1.0 : -vCenter.z));
    gl_Position = projected(vCenter);
    gl_PointSize = 2.2 * vRadius / (uPixel * (uParallel ? 1.0 : -vCenter.z)) + 2.0;
    return;
  }
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0 - 1.0;
  float far = length(vCenter);
  vec3 away = uParallel ? vec3(0.0, 0.0, -1.0) : vCenter / far;
  if (!uParallel && (vCenter.z > -vRadius || far <= vRadius)) { gl_Position = NOWHERE; return; }
  vec3 right = normalize(cross(away, vec3(0.0, 1.0, 0.0))), up = cross(right, away);
  float reach = uParallel ? vRadius : vRadius * far / sqrt(far * far - vRadius * vRadius);
  gl_Position = projected(vCenter + reach * (corner.x * right + corner.y * up));
}`;

const SPHERE_FRAGMENT = `${HEAD}
flat in vec3 vCenter;
flat in float vRadius;
flat in vec4 vColor;
flat in int vNumber;
uniform bool uPick;
uniform ivec2 uDrawn;
layout(location = 0) out vec4 oColor;
layout(location = 1) out vec4 oNormal;
void main() {
  vec2 sight = (gl_FragCoord.xy / vec2(uDrawn) * 2.0 - 1.0 - uJitter) / uProjection.xy;
  vec3 start = uParallel ? vec3(sight, 0.0) : vec3(0.0);
  vec3 ray = uParallel ? vec3(0.0, 0.0, -1.0) : normalize(vec3(sight, -1.0));
  vec3 toCenter = vCenter - start;
  float along = dot(ray, toCenter);
  float rest = vRadius * vRadius - dot(toCenter, toCenter) + along * along;
  if (rest < 0.0) discard;
  vec3 hit = start + (along - sqrt(rest)) * ray;
  float depth = depthOf(hit);
  if (depth < 0.0 || depth > 1.0) discard;
  gl_FragDepth = depth;
  oNormal = vec4(0.5 + 0.5 * (hit - vCenter) / vRadius, 1.0);
  int n = vNumber + 1;
  oColor = uPick ? vec4(n & 255, (n >> 8) & 255, (n >> 16) & 255, 255) / 255.0 : vColor;
}`;

// Bonds and the edges of the cell: strips toward the viewer, shaded as cylinders.
const STICK_VERTEX = `${HEAD}
layout(location = 0) in vec3 aStart;
layout(location = 1) in vec3 aVector;
uniform float uRadius; // Å, or pixels if negative
uniform float uPixel; // Å per pixel at the distance 1 (or everywhere, in parallel projection)
out vec3 vPoint;
out float vSide;
flat out vec3 vAcross, vFront;
flat out float vRadius;
void main() {
  if (uRadius > 0.0 && cut(aStart)) { gl_Position = NOWHERE; return; }
  vec3 a = uTurn * aStart + uPlace, d = uTurn * aVector;
  vec3 middle = a + 0.5 * d;
  vec3 away = uParallel ? vec3(0.0, 0.0, -1.0) : normalize(middle);
  vec3 across = cross(d, away);
  float wide = length(across);
  vAcross = wide > 1e-6 ? across / wide : vec3(1.0, 0.0, 0.0);
  vFront = normalize(cross(vAcross, d));
  if (dot(vFront, away) > 0.0) vFront = -vFront;
  vec3 end = (gl_VertexID >> 1) == 0 ? a : a + d;
  vRadius = uRadius > 0.0 ? uRadius : -uRadius * uPixel * (uParallel ? 1.0 : max(-end.z, 0.01));
  vSide = float(gl_VertexID & 1) * 2.0 - 1.0;
  vPoint = end + vRadius * vSide * vAcross;
  gl_Position = projected(vPoint);
}`;

const STICK_FRAGMENT = `${HEAD}
in vec3 vPoint;
in float vSide;
flat in vec3 vAcross, vFront;
flat in float vRadius;
uniform vec4 uColor; // alpha 0.5: not shaded
layout(location = 0) out vec4 oColor;
layout(location = 1) out vec4 oNormal;
void main() {
  float high = sqrt(max(1.0 - vSide * vSide, 0.0));
  float depth = depthOf(vPoint + vRadius * high * vFront);
  if (depth < 0.0 || depth > 1.0) discard;
  gl_FragDepth = depth;
  oNormal = vec4(0.5 + 0.5 * (vSide * vAcross + high * vFront), 1.0);
  oColor = uColor;
}`;

const SCREEN_VERTEX = `#version 300 es
void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0); }`;

// Light, ambient occlusion (McGuire et al. 2011, DOI 10.1145/2018323.2018327) and outlines.
const LIGHT_FRAGMENT = `${HEAD}
uniform sampler2D uColorMap, uNormalMap;
uniform highp sampler2D uDepthMap;
uniform vec2 uDepths; // nearest and farthest distance of the viewer
uniform float uPixel, uReach, uTurnOfSamples, uOutline;
uniform int uSamples;
uniform ivec2 uDrawn;
out vec4 oColor;
vec3 placeAt(ivec2 pixel) {
  float depth = 2.0 * texelFetch(uDepthMap, pixel, 0).r - 1.0;
  vec2 xy = (vec2(pixel) + 0.5) / vec2(uDrawn) * 2.0 - 1.0;
  float z = uParallel ? (depth - uProjection.w) / uProjection.z : -uProjection.w / (uProjection.z + depth);
  return vec3(xy / uProjection.xy * (uParallel ? 1.0 : -z), z);
}
void main() {
  ivec2 pixel = ivec2(gl_FragCoord.xy), most = uDrawn - 1;
  vec4 color = texelFetch(uColorMap, pixel, 0);
  if (color.a < 0.1) { oColor = vec4(0.0); return; }
  if (color.a < 0.6) { oColor = vec4(color.rgb, 1.0); return; }
  vec3 place = placeAt(pixel), normal = texelFetch(uNormalMap, pixel, 0).xyz * 2.0 - 1.0;
  float scale = 1.0 / (uPixel * (uParallel ? 1.0 : -place.z)); // pixels per Å
  float dark = 0.0, reach = clamp(uReach * scale, 3.0, 90.0);
  float start = uTurnOfSamples + 6.2832 * fract(52.9829 * fract(dot(vec2(pixel), vec2(0.06711, 0.00584))));
  for (int k = 0; k < uSamples; k++) {
    float share = (float(k) + 0.5) / float(uSamples), angle = start + 2.4 * float(k);
    ivec2 other = clamp(pixel + ivec2(reach * share * vec2(cos(angle), sin(angle))), ivec2(0), most);
    vec3 apart = placeAt(other) - place;
    float square = dot(apart, apart);
    dark += max(dot(apart, normal) - 0.02 * uReach, 0.0) / (square + 0.05 * uReach * uReach)
      * clamp(2.0 - square / (uReach * uReach), 0.0, 1.0);
  }
  float open = clamp(1.0 - 0.75 * uReach * dark / float(uSamples), 0.0, 1.0);
  float edge = 0.0;
  for (int k = 0; k < 4; k++) {
    ivec2 other = clamp(pixel + ivec2((k & 1) * 2 - 1, (k >> 1) * 2 - 1), ivec2(0), most);
    edge = max(edge, smoothstep(0.15, 0.6, (place.z - placeAt(other).z) / uReach));
  }
  vec3 light = normalize(vec3(-0.35, 0.6, 0.75));
  float facing = max(dot(normal, light), 0.0), fill = 0.5 + 0.5 * dot(normal, normalize(vec3(0.5, 0.15, 0.85)));
  float shine = pow(max(dot(normal, normalize(light + vec3(0.0, 0.0, 1.0))), 0.0), 48.0);
  vec3 lit = color.rgb * open * (0.56 * fill + 0.72 * facing) + 0.14 * shine * open;
  lit *= 1.0 - uOutline * edge;
  float far = clamp((-place.z - uDepths.x) / (uDepths.y - uDepths.x), 0.0, 1.0);
  oColor = vec4(mix(lit, vec3(1.0), 0.30 * far * far), 1.0);
}`;

// The interface, half transparent, over what was drawn.
const MESH_VERTEX = `${HEAD}
layout(location = 0) in vec3 aPoint;
layout(location = 1) in vec3 aNormal;
out vec3 vPlace, vNormal, vPoint;
void main() {
  vPoint = aPoint;
  vPlace = uTurn * aPoint + uPlace;
  vNormal = uTurn * aNormal;
  gl_Position = projected(vPlace);
}`;

const MESH_FRAGMENT = `${HEAD}
in vec3 vPlace, vNormal, vPoint;
uniform highp sampler2D uDepthMap;
uniform mat3 uShares; // columns: reciprocal vectors
uniform vec3 uCorner;
uniform bvec3 uPeriodic;
uniform vec4 uColor;
out vec4 oColor;
void main() {
  vec3 share = (vPoint - uCorner) * uShares;
  if (any(notEqual(clamp(share, 0.0, 1.0), share) )) {
    for (int k = 0; k < 3; k++) if (uPeriodic[k] && (share[k] < 0.0 || share[k] > 1.0)) discard;
  }
  if (cut(vPoint) || gl_FragCoord.z > texelFetch(uDepthMap, ivec2(gl_FragCoord.xy), 0).r) discard;
  vec3 away = uParallel ? vec3(0.0, 0.0, -1.0) : normalize(vPlace), normal = normalize(vNormal);
  if (dot(normal, away) > 0.0) normal = -normal;
  vec3 light = normalize(vec3(-0.35, 0.6, 0.75));
  float facing = max(dot(normal, light), 0.0), shine = pow(max(dot(reflect(-light, normal), -away), 0.0), 24.0);
  float grazing = 1.0 - abs(dot(normal, away));
  float alpha = mix(uColor.a, 1.0, 0.6 * grazing * grazing);
  vec3 lit = uColor.rgb * (0.45 + 0.6 * facing) * (1.0 - 0.25 * grazing * grazing) + 0.2 * shine;
  oColor = vec4(lit * alpha, alpha);
}`;

const COPY_FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D uFrom;
uniform bool uWhite;
uniform float uRatio;
uniform vec3 uRing; // center and radius of the circle around the chosen atom, in pixels; 0 for none
out vec4 oColor;
void main() {
  oColor = texelFetch(uFrom, ivec2(gl_FragCoord.xy / uRatio), 0);
  if (uWhite) oColor = vec4(oColor.rgb + 1.0 - oColor.a, 1.0);
  float off = abs(length(gl_FragCoord.xy - uRing.xy) - uRing.z);
  if (uRing.z > 0.0) {
    oColor.rgb = mix(oColor.rgb, vec3(0.1), 1.0 - smoothstep(2.0, 3.0, off));
    oColor.rgb = mix(oColor.rgb, vec3(1.0, 0.92, 0.1), 1.0 - smoothstep(0.8, 1.8, off));
  }
}`;
