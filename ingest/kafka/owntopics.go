package kafka

import "context"

// CheckOwnTopics looks at the topics of our own without creating any: which are
// missing, and what is wrong with those that exist.
func (c *Client) CheckOwnTopics(ctx context.Context) (missing []string, faults []error, err error) {
	own := c.ownTopics()
	infos, err := c.CheckTopics(ctx, c.OwnTopics())
	if err != nil {
		return nil, nil, err
	}
	for i, t := range own {
		if !infos[i].Exists && !infos[i].Denied {
			missing = append(missing, t.name)
			continue
		}
		faults = append(faults, t.check(infos[i])...)
	}
	return missing, faults, nil
}

// OwnTopics names the topics of our own.
func (c *Client) OwnTopics() []string {
	own := c.ownTopics()
	names := make([]string, len(own))
	for i, t := range own {
		names[i] = t.name
	}
	return names
}
