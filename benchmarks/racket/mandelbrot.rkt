#lang racket/base
;; mandelbrot N: the Mandelbrot set on an N by N grid.
;; Prints a portable bitmap (PBM, format P4): a pixel is black if its point has not left the circle
;; of radius 2 after 50 steps. Floating-point arithmetic with values that must not be boxed, and one
;; write a row.

(require racket/unsafe/ops)

(define steps 50)
(define radius-squared 4.0)

;; Does c = cr + ci*i stay inside for all steps?
(define (inside? cr ci)
  (let loop ([left steps] [zr 0.0] [zi 0.0])
    (define zr2 (unsafe-fl* zr zr))
    (define zi2 (unsafe-fl* zi zi))
    (cond
      [(unsafe-fl> (unsafe-fl+ zr2 zi2) radius-squared) #f]
      [(unsafe-fx= left 0) #t]
      [else
       (loop (unsafe-fx- left 1)
             (unsafe-fl+ (unsafe-fl- zr2 zi2) cr)
             (unsafe-fl+ (unsafe-fl* (unsafe-fl* 2.0 zr) zi) ci))])))

;; The grid covers -1.5..0.5 and -1..1.
(define (coordinate index n origin)
  (unsafe-fl- (unsafe-fl/ (unsafe-fl* 2.0 (unsafe-fx->fl index)) (unsafe-fx->fl n)) origin))

;; Eight pixels a byte, the leftmost in the highest bit; pixels past the right edge are white (0).
(define (fill-row! row n ci)
  (for ([byte-index (in-range (unsafe-bytes-length row))])
    (define first-x (unsafe-fx* byte-index 8))
    (define bits
      (let loop ([i 0] [bits 0])
        (cond
          [(unsafe-fx= i 8) bits]
          [else
           (define x (unsafe-fx+ first-x i))
           (define black? (and (unsafe-fx< x n) (inside? (coordinate x n 1.5) ci)))
           (loop (unsafe-fx+ i 1)
                 (unsafe-fxior (unsafe-fxlshift bits 1) (if black? 1 0)))])))
    (unsafe-bytes-set! row byte-index bits)))

(module+ main
  (define n (string->number (vector-ref (current-command-line-arguments) 0)))
  (define out (current-output-port))
  (fprintf out "P4\n~a ~a\n" n n)
  (define row (make-bytes (quotient (+ n 7) 8)))
  (for ([y (in-range n)])
    (fill-row! row n (coordinate y n 1.0))
    (write-bytes row out)))
