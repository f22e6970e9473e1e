#lang racket/base
;; churn N: large objects that live shortly.
;; N times: makes a byte string of 1 to 24 MiB and a vector of as many bytes, writes to both, keeps
;; them until eight younger pairs are there, and adds up a sample of what they hold. Pages that are
;; taken from Linux, cleared by it, and given back, again and again.

(require racket/unsafe/ops)

(define kept 8)
(define mebibyte (* 1024 1024))
(define page 4096)
(define word 8)

;; A size in MiB, from 1 to 24, that looks drawn at random.
(define (size-of round)
  (+ 1 (modulo (* round 37) 24)))

(define (sum-bytes block)
  (for/fold ([sum 0]) ([i (in-range 0 (bytes-length block) page)])
    (unsafe-fx+ sum (unsafe-bytes-ref block i))))

(define (sum-vector items)
  (for/fold ([sum 0]) ([i (in-range 0 (vector-length items) (quotient page word))])
    (unsafe-fx+ sum (unsafe-vector-ref items i))))

(module+ main
  (define n (string->number (vector-ref (current-command-line-arguments) 0)))
  (define ring (make-vector kept #f))
  (define total
    (for/fold ([total 0]) ([round (in-range n)])
      (define size (* mebibyte (size-of round)))
      (define block (make-bytes size (modulo round 251)))
      (define items (make-vector (quotient size word) round))
      (vector-set! ring (modulo round kept) (cons block items))
      (define old (or (vector-ref ring (modulo (+ round 1) kept)) (cons block items)))
      (+ total (sum-bytes (car old)) (sum-vector (cdr old)))))
  (printf "~a rounds: ~a\n" n total))
