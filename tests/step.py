"""STEP files made by code: boxes and spheres as exact bodies (ISO 10303-21, AP214)."""

from __future__ import annotations

from itertools import pairwise

UNITS = {"mm": ".MILLI.", "m": "$"}

FRAME = """ISO-10303-21;
HEADER;
FILE_DESCRIPTION((''),'2;1');
FILE_NAME('made','2026-01-01T00:00:00',(''),(''),'','','');
FILE_SCHEMA(('AUTOMOTIVE_DESIGN {{ 1 0 10303 214 1 1 1 1 }}'));
ENDSEC;
DATA;
{lines}
ENDSEC;
END-ISO-10303-21;
"""


class Writer:
    """Entities, numbered as they come."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def put(self, text: str) -> str:
        """Write one entity; its reference."""
        self.lines.append(f"#{len(self.lines) + 1} = {text};")
        return f"#{len(self.lines)}"

    def point(self, at) -> str:
        return self.put(f"CARTESIAN_POINT('',({','.join(f'{x:.9E}' for x in at)}))")

    def direction(self, along) -> str:
        return self.put(f"DIRECTION('',({','.join(f'{x:.9E}' for x in along)}))")

    def place(self, at, z=(0, 0, 1), x=(1, 0, 0)) -> str:
        return self.put(f"AXIS2_PLACEMENT_3D('',{self.point(at)},{self.direction(z)},{self.direction(x)})")

    def solid(self, faces) -> str:
        shell = self.put(f"CLOSED_SHELL('',({','.join(faces)}))")
        return self.put(f"MANIFOLD_SOLID_BREP('',{shell})")

    def sphere(self, radius, at=(0, 0, 0)) -> str:
        pole = self.put(f"VERTEX_POINT('',{self.point((at[0], at[1], at[2] - radius))})")
        loop = self.put(f"VERTEX_LOOP('',{pole})")
        bound = self.put(f"FACE_BOUND('',{loop},.T.)")
        surface = self.put(f"SPHERICAL_SURFACE('',{self.place(at)},{radius:.9E})")
        return self.solid([self.put(f"ADVANCED_FACE('',({bound}),{surface},.T.)")])

    def box(self, size, at=(0, 0, 0)) -> str:
        corner = {
            bits: self.put(
                f"VERTEX_POINT('',{self.point([a + s * b for a, s, b in zip(at, size, bits, strict=True)])})"
            )
            for bits in ((x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1))
        }
        edges: dict[tuple, str] = {}
        faces = []
        for axis in range(3):
            one, two = (axis + 1) % 3, (axis + 2) % 3
            for side in (0, 1):
                around = [(0, 0), (1, 0), (1, 1), (0, 1)]
                if not side:  # seen from outside, counter-clockwise
                    around.reverse()
                loop = []
                for u, v in around:
                    bits = [0, 0, 0]
                    bits[axis], bits[one], bits[two] = side, u, v
                    loop.append(tuple(bits))
                used = []
                for a, b in pairwise([*loop, loop[0]]):
                    key = (min(a, b), max(a, b))
                    if key not in edges:
                        way = [q - p for p, q in zip(*key, strict=True)]
                        start = [o + s * p for o, s, p in zip(at, size, key[0], strict=True)]
                        vector = self.put(f"VECTOR('',{self.direction(way)},1.)")
                        line = self.put(f"LINE('',{self.point(start)},{vector})")
                        edges[key] = self.put(f"EDGE_CURVE('',{corner[key[0]]},{corner[key[1]]},{line},.T.)")
                    used.append(
                        self.put(f"ORIENTED_EDGE('',*,*,{edges[key]},{'.T.' if key == (a, b) else '.F.'})")
                    )
                whole = self.put(f"EDGE_LOOP('',({','.join(used)}))")
                bound = self.put(f"FACE_BOUND('',{whole},.T.)")
                normal, along = [0, 0, 0], [0, 0, 0]
                normal[axis], along[one] = (1 if side else -1), 1
                middle = [o + s * p for o, s, p in zip(at, size, loop[0], strict=True)]
                plane = self.put(f"PLANE('',{self.place(middle, normal, along)})")
                faces.append(self.put(f"ADVANCED_FACE('',({bound}),{plane},.T.)"))
        return self.solid(faces)

    def context(self, unit="mm") -> str:
        """Units and precision."""
        length = self.put(f"(LENGTH_UNIT() NAMED_UNIT(*) SI_UNIT({UNITS[unit]},.METRE.))")
        angle = self.put("(NAMED_UNIT(*) PLANE_ANGLE_UNIT() SI_UNIT($,.RADIAN.))")
        solid = self.put("(NAMED_UNIT(*) SI_UNIT($,.STERADIAN.) SOLID_ANGLE_UNIT())")
        close = self.put(
            f"UNCERTAINTY_MEASURE_WITH_UNIT(LENGTH_MEASURE(1.E-7),{length},'distance_accuracy_value','')"
        )
        return self.put(
            f"(GEOMETRIC_REPRESENTATION_CONTEXT(3) GLOBAL_UNCERTAINTY_ASSIGNED_CONTEXT(({close})) "
            f"GLOBAL_UNIT_ASSIGNED_CONTEXT(({length},{angle},{solid})) REPRESENTATION_CONTEXT('',''))"
        )

    def products(self) -> tuple[str, str]:
        """What products are defined in: two contexts."""
        application = self.put("APPLICATION_CONTEXT('automotive design')")
        self.put(
            f"APPLICATION_PROTOCOL_DEFINITION('international standard','automotive_design',2000,{application})"
        )
        mechanical = self.put(f"PRODUCT_CONTEXT('',{application},'mechanical')")
        return mechanical, self.put(f"PRODUCT_DEFINITION_CONTEXT('part definition',{application},'design')")

    def product(self, name, contexts, document=None) -> str:
        """A product's definition."""
        product = self.put(f"PRODUCT('{name}','{name}','',({contexts[0]}))")
        formation = self.put(f"PRODUCT_DEFINITION_FORMATION('','',{product})")
        if document:
            return self.put(
                f"PRODUCT_DEFINITION_WITH_ASSOCIATED_DOCUMENTS('design','',{formation},{contexts[1]},({document}))"
            )
        return self.put(f"PRODUCT_DEFINITION('design','',{formation},{contexts[1]})")

    def shape(self, definition, items, context, kind) -> str:
        """What a product looks like."""
        whole = self.put(f"PRODUCT_DEFINITION_SHAPE('','',{definition})")
        looks = self.put(f"{kind}('',({','.join(items)}),{context})")
        self.put(f"SHAPE_DEFINITION_REPRESENTATION({whole},{looks})")
        return looks

    def text(self, bodies, unit="mm") -> bytes:
        """The whole file, of one product."""
        context, definition = self.context(unit), self.product("made", self.products())
        self.shape(
            definition, [self.place((0, 0, 0)), *bodies], context, "ADVANCED_BREP_SHAPE_REPRESENTATION"
        )
        return self.content()

    def content(self) -> bytes:
        return FRAME.format(lines="\n".join(self.lines)).encode()


def elsewhere(target: str, how: str) -> bytes:
    """An assembly of a box and of a part that lies in another file."""
    one = Writer()
    context, contexts = one.context(), one.products()
    kind = one.put("DOCUMENT_TYPE('geometry')")
    document = one.put(f"DOCUMENT_FILE('{target}','','',{kind},'',$)")
    top = one.product("top", contexts)
    part = one.product("part", contexts, document if how == "associated" else None)
    inside = one.product("box", contexts)
    places = [one.place((0, 0, 0)) for _ in range(5)]
    whole = one.shape(top, places[:3], context, "SHAPE_REPRESENTATION")
    empty = one.shape(part, places[3:4], context, "SHAPE_REPRESENTATION")
    items = [places[4], one.box((10, 20, 30))]
    filled = one.shape(inside, items, context, "ADVANCED_BREP_SHAPE_REPRESENTATION")
    for number, (definition, looks, own, put) in enumerate(
        ((part, empty, places[3], places[1]), (inside, filled, places[4], places[2]))
    ):
        used = one.put(f"NEXT_ASSEMBLY_USAGE_OCCURRENCE('{number}','{number}','',{top},{definition},$)")
        shape = one.put(f"PRODUCT_DEFINITION_SHAPE('','',{used})")
        moved = one.put(f"ITEM_DEFINED_TRANSFORMATION('','',{own},{put})")
        related = one.put(
            f"(REPRESENTATION_RELATIONSHIP('','',{looks},{whole}) "
            f"REPRESENTATION_RELATIONSHIP_WITH_TRANSFORMATION({moved}) SHAPE_REPRESENTATION_RELATIONSHIP())"
        )
        one.put(f"CONTEXT_DEPENDENT_SHAPE_REPRESENTATION({related},{shape})")
    if how == "assigned":
        source = one.put("EXTERNAL_SOURCE(IDENTIFIER(''))")
        role = one.put("IDENTIFICATION_ROLE('external document id and location','')")
        one.put(f"APPLIED_EXTERNAL_IDENTIFICATION_ASSIGNMENT('{target}',{role},{source},({document}))")
        one.put(f"APPLIED_DOCUMENT_REFERENCE({document},'',({part}))")
    return one.content()


def box(size=(10, 20, 30), unit="mm") -> bytes:
    """A box with a corner at 0."""
    writer = Writer()
    return writer.text([writer.box(size)], unit)


def sphere(radius=10.0, unit="mm") -> bytes:
    """A sphere around 0."""
    writer = Writer()
    return writer.text([writer.sphere(radius)], unit)


def two() -> bytes:
    """A box and a sphere beside it, in one file."""
    writer = Writer()
    return writer.text([writer.box((10, 20, 30)), writer.sphere(5, at=(40, 0, 0))])
