#lang racket/base
;; n-body N: the sun and the four gas planets.
;; Integrates their motion for N steps of 0.01 days with a symplectic integrator and prints the
;; system's energy before and after. Floating-point arithmetic on a few numbers in memory.

(require racket/flonum
         racket/unsafe/ops)

(define pi 3.141592653589793)
(define solar-mass (* 4.0 pi pi))
(define days-per-year 365.24)
(define time-step 0.01)

;; A body is seven numbers in one flvector of all bodies: position x y z (astronomical units),
;; velocity x y z (astronomical units a year), mass (in units where the gravitational constant is
;; 1).
(define fields 7)
(define-values (X Y Z VX VY VZ MASS) (values 0 1 2 3 4 5 6))

;; Velocities are given per day and masses in solar masses.
(define (body x y z vx vy vz mass)
  (list x y z (* vx days-per-year) (* vy days-per-year) (* vz days-per-year) (* mass solar-mass)))

(define bodies
  (apply flvector
         (append
          (body 0.0 0.0 0.0 0.0 0.0 0.0 1.0)
          ;; Jupiter
          (body 4.84143144246472090e+00 -1.16032004402742839e+00 -1.03622044471123109e-01
                1.66007664274403694e-03 7.69901118419740425e-03 -6.90460016972063023e-05
                9.54791938424326609e-04)
          ;; Saturn
          (body 8.34336671824457987e+00 4.12479856412430479e+00 -4.03523417114321381e-01
                -2.76742510726411899e-03 4.99852801234917238e-03 2.30417297573763929e-05
                2.85885980666130812e-04)
          ;; Uranus
          (body 1.28943695621391310e+01 -1.51111514016986312e+01 -2.23307578892655734e-01
                2.96460137564761618e-03 2.37847173959480950e-03 -2.96589568540237556e-05
                4.36624404335156298e-05)
          ;; Neptune
          (body 1.53796971148509165e+01 -2.59193146099879641e+01 1.79258772950371181e-01
                2.68067772490389322e-03 1.62824170038242295e-03 -9.51592254519715870e-05
                5.15138902046611451e-05))))

(define end (flvector-length bodies))

(define-syntax-rule (ref base field) (unsafe-flvector-ref bodies (unsafe-fx+ base field)))
(define-syntax-rule (add! base field amount)
  (let ([i (unsafe-fx+ base field)])
    (unsafe-flvector-set! bodies i (unsafe-fl+ (unsafe-flvector-ref bodies i) amount))))
(define-syntax-rule (sum-of-squares a b c)
  (unsafe-fl+ (unsafe-fl+ (unsafe-fl* a a) (unsafe-fl* b b)) (unsafe-fl* c c)))

;; Give the sun the momentum that brings the system's total to zero.
(define (rest-centre-of-mass!)
  (for ([field (in-list (list VX VY VZ))])
    (define momentum
      (for/fold ([sum 0.0]) ([b (in-range 0 end fields)])
        (fl+ sum (fl* (ref b field) (ref b MASS)))))
    (add! 0 field (fl- 0.0 (fl/ momentum solar-mass)))))

(define (energy)
  (for/fold ([total 0.0]) ([i (in-range 0 end fields)])
    (define kinetic
      (fl* (fl* 0.5 (ref i MASS)) (sum-of-squares (ref i VX) (ref i VY) (ref i VZ))))
    (for/fold ([total (fl+ total kinetic)]) ([j (in-range (+ i fields) end fields)])
      (define dx (fl- (ref i X) (ref j X)))
      (define dy (fl- (ref i Y) (ref j Y)))
      (define dz (fl- (ref i Z) (ref j Z)))
      (fl- total (fl/ (fl* (ref i MASS) (ref j MASS)) (flsqrt (sum-of-squares dx dy dz)))))))

;; First every pair's pull on both velocities, then every position.
(define (advance! dt)
  (let each-i ([i 0])
    (when (unsafe-fx< i end)
      (let each-j ([j (unsafe-fx+ i fields)])
        (when (unsafe-fx< j end)
          (let* ([dx (unsafe-fl- (ref i X) (ref j X))]
                 [dy (unsafe-fl- (ref i Y) (ref j Y))]
                 [dz (unsafe-fl- (ref i Z) (ref j Z))]
                 [distance2 (sum-of-squares dx dy dz)]
                 [magnitude (unsafe-fl/ dt (unsafe-fl* distance2 (unsafe-flsqrt distance2)))]
                 [pull-i (unsafe-fl* (unsafe-fl- 0.0 (ref j MASS)) magnitude)]
                 [pull-j (unsafe-fl* (ref i MASS) magnitude)])
            (add! i VX (unsafe-fl* dx pull-i))
            (add! i VY (unsafe-fl* dy pull-i))
            (add! i VZ (unsafe-fl* dz pull-i))
            (add! j VX (unsafe-fl* dx pull-j))
            (add! j VY (unsafe-fl* dy pull-j))
            (add! j VZ (unsafe-fl* dz pull-j))
            (each-j (unsafe-fx+ j fields)))))
      (each-i (unsafe-fx+ i fields))))
  (let each ([i 0])
    (when (unsafe-fx< i end)
      (add! i X (unsafe-fl* dt (ref i VX)))
      (add! i Y (unsafe-fl* dt (ref i VY)))
      (add! i Z (unsafe-fl* dt (ref i VZ)))
      (each (unsafe-fx+ i fields)))))

;; Nine decimals, rounded, as C's "%.9f" would print it.
(define (show x)
  (define scaled (number->string (inexact->exact (round (* (abs (inexact->exact x)) (expt 10 9))))))
  (define padded (string-append (make-string (max 0 (- 10 (string-length scaled))) #\0) scaled))
  (define point (- (string-length padded) 9))
  (printf "~a~a.~a\n" (if (< x 0.0) "-" "") (substring padded 0 point) (substring padded point)))

(module+ main
  (define n (string->number (vector-ref (current-command-line-arguments) 0)))
  (rest-centre-of-mass!)
  (show (energy))
  (for ([_ (in-range n)]) (advance! time-step))
  (show (energy)))
