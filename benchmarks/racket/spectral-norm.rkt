#lang racket/base
;; spectral-norm N: the largest singular value of an infinite matrix, cut to N by N.
;; The matrix is A(i,j) = 1 / ((i+j)(i+j+1)/2 + i + 1), never stored. Ten rounds of the power method
;; with A-transposed times A. Floating-point division and vectors of N numbers.

(require racket/flonum
         racket/unsafe/ops)

(define rounds 10)

(define-syntax-rule (entry i j)
  (let* ([diagonal (unsafe-fx+ i j)]
         [triangle (unsafe-fxrshift (unsafe-fx* diagonal (unsafe-fx+ diagonal 1)) 1)])
    (unsafe-fl/ 1.0 (unsafe-fx->fl (unsafe-fx+ (unsafe-fx+ triangle i) 1)))))

;; (define-product name i j e): (name v out) sets out[i] to the sum over j of e * v[j].
(define-syntax-rule (define-product name i j e)
  (define (name v out)
    (define n (unsafe-flvector-length v))
    (let row ([i 0])
      (when (unsafe-fx< i n)
        (unsafe-flvector-set!
         out i
         (let column ([j 0] [sum 0.0])
           (if (unsafe-fx= j n)
               sum
               (column (unsafe-fx+ j 1)
                       (unsafe-fl+ sum (unsafe-fl* e (unsafe-flvector-ref v j)))))))
        (row (unsafe-fx+ i 1))))))

(define-product multiply-A i j (entry i j))
(define-product multiply-A-transposed i j (entry j i))

(define (dot a b)
  (for/fold ([sum 0.0]) ([x (in-flvector a)] [y (in-flvector b)])
    (fl+ sum (fl* x y))))

(define (spectral-norm n)
  (define u (make-flvector n 1.0))
  (define v (make-flvector n 0.0))
  (define between (make-flvector n 0.0))
  (define (multiply-both from to)
    (multiply-A from between)
    (multiply-A-transposed between to))
  (for ([_ (in-range rounds)])
    (multiply-both u v)
    (multiply-both v u))
  (flsqrt (fl/ (dot u v) (dot v v))))

;; Nine decimals, rounded, as C's "%.9f" would print it; x is positive.
(define (show x)
  (define scaled (number->string (inexact->exact (round (* (inexact->exact x) (expt 10 9))))))
  (define point (- (string-length scaled) 9))
  (printf "~a.~a\n" (substring scaled 0 point) (substring scaled point)))

(module+ main
  (show (spectral-norm (string->number (vector-ref (current-command-line-arguments) 0)))))
