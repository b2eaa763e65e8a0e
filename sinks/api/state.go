package api

import "net/http"

func (s *server) snapshot(w http.ResponseWriter, r *http.Request)      {}
func (s *server) stateCustomer(w http.ResponseWriter, r *http.Request) {}
func (s *server) stateScan(w http.ResponseWriter, r *http.Request)     {}
func (s *server) customer(w http.ResponseWriter, r *http.Request)      {}
