"""n-body N: the sun and the four gas planets. Integrates their motion for N steps of 0.01 days with
a symplectic integrator and prints the system's energy before and after.
"""

import itertools
import math
import sys

SOLAR_MASS = 4.0 * math.pi * math.pi
DAYS_PER_YEAR = 365.24
TIME_STEP = 0.01

#: Position (astronomical units), velocity (those a day), mass (the sun's).
BODIES = (
    ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0),
    # Jupiter
    (
        (4.84143144246472090e00, -1.16032004402742839e00, -1.03622044471123109e-01),
        (1.66007664274403694e-03, 7.69901118419740425e-03, -6.90460016972063023e-05),
        9.54791938424326609e-04,
    ),
    # Saturn
    (
        (8.34336671824457987e00, 4.12479856412430479e00, -4.03523417114321381e-01),
        (-2.76742510726411899e-03, 4.99852801234917238e-03, 2.30417297573763929e-05),
        2.85885980666130812e-04,
    ),
    # Uranus
    (
        (1.28943695621391310e01, -1.51111514016986312e01, -2.23307578892655734e-01),
        (2.96460137564761618e-03, 2.37847173959480950e-03, -2.96589568540237556e-05),
        4.36624404335156298e-05,
    ),
    # Neptune
    (
        (1.53796971148509165e01, -2.59193146099879641e01, 1.79258772950371181e-01),
        (2.68067772490389322e-03, 1.62824170038242295e-03, -9.51592254519715870e-05),
        5.15138902046611451e-05,
    ),
)


class Body:
    __slots__ = ("mass", "vx", "vy", "vz", "x", "y", "z")

    def __init__(self, position, velocity, mass):
        self.x, self.y, self.z = position
        self.vx, self.vy, self.vz = (v * DAYS_PER_YEAR for v in velocity)
        self.mass = mass * SOLAR_MASS


def rest_centre_of_mass(bodies):
    """Give the sun the momentum that brings the system's total to zero."""
    sun = bodies[0]
    sun.vx -= sum(b.vx * b.mass for b in bodies) / SOLAR_MASS
    sun.vy -= sum(b.vy * b.mass for b in bodies) / SOLAR_MASS
    sun.vz -= sum(b.vz * b.mass for b in bodies) / SOLAR_MASS


def energy(bodies, pairs):
    total = sum(0.5 * b.mass * (b.vx * b.vx + b.vy * b.vy + b.vz * b.vz) for b in bodies)
    for one, other in pairs:
        dx, dy, dz = one.x - other.x, one.y - other.y, one.z - other.z
        total -= one.mass * other.mass / math.sqrt(dx * dx + dy * dy + dz * dz)
    return total


def advance(bodies, pairs, dt):
    """First every pair's pull on both velocities, then every position."""
    for one, other in pairs:
        dx, dy, dz = one.x - other.x, one.y - other.y, one.z - other.z
        distance2 = dx * dx + dy * dy + dz * dz
        magnitude = dt / (distance2 * math.sqrt(distance2))
        pull = other.mass * magnitude
        one.vx -= dx * pull
        one.vy -= dy * pull
        one.vz -= dz * pull
        pull = one.mass * magnitude
        other.vx += dx * pull
        other.vy += dy * pull
        other.vz += dz * pull
    for body in bodies:
        body.x += dt * body.vx
        body.y += dt * body.vy
        body.z += dt * body.vz


def main(n):
    bodies = [Body(*values) for values in BODIES]
    pairs = list(itertools.combinations(bodies, 2))
    rest_centre_of_mass(bodies)
    print(f"{energy(bodies, pairs):.9f}")
    for _ in range(n):
        advance(bodies, pairs, TIME_STEP)
    print(f"{energy(bodies, pairs):.9f}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
